"""Write a row and its event in one transaction, and be killed at a step."""

import os
import signal
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from django_sse import publishing, send_event
from django_sse.history import get_history
from django_sse.history.database import DatabaseHistory, line
from django_sse.history.database.log import Log


class Command(BaseCommand):
    """Die at the step that is named."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the step."""
        parser.add_argument("step")

    def handle(self, *, step: str, **_: Any) -> None:
        """Go on until that step."""

        def die(here: str) -> None:
            if here == step:
                os.kill(os.getpid(), signal.SIGKILL)

        def between(before: str, function: Callable[..., Any], after: str) -> Callable[..., Any]:
            def call(*values: Any, **options: Any) -> Any:
                die(before)
                answer = function(*values, **options)
                die(after)
                return answer

            return call

        history = get_history()
        assert isinstance(history, DatabaseHistory)
        history.outbox.deliver = between(  # type: ignore[method-assign]
            "after the commit", history.outbox.deliver, ""
        )
        Log.append_now = between("", Log.append_now, "in the append")  # type: ignore[method-assign]
        line._commit = between("before the append's commit", line._commit, "")
        publishing._announce = between("after the append", publishing._announce, "after the doorbell")
        with transaction.atomic():
            Group.objects.create(name=step)
            die("before the event")
            send_event(["orders", "room.5"], "told", step)
            die("before the commit")
        raise CommandError(f"{step!r} is no step")
