"""Write rows and their events, a transaction each, and say so, until killed."""

from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from django_sse import send_event


class Command(BaseCommand):
    """Write many; their names begin as the argument says."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the beginning of the names."""
        parser.add_argument("name")

    def handle(self, *, name: str, **_: Any) -> None:
        """Go on as long as it lives."""
        for number in range(100_000):
            with transaction.atomic():
                Group.objects.create(name=f"{name}.{number}")
                send_event(["orders", "room.5"], "told", f"{name}.{number}")
            print(number, flush=True)
