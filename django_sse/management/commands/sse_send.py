"""Send one event from a shell."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_sse.exceptions import SSEError
from django_sse.history import get_history
from django_sse.publishing import send_event


class Command(BaseCommand):
    """Send one event, or say why nobody could hear it."""

    help = "Send one event to a topic, as send_event() does."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a topic, a name, and data or a text."""
        parser.add_argument("topic", help="such as board, or user.5 for the user with this primary key")
        parser.add_argument("event", help="the event's name, such as notice-created")
        content = parser.add_mutually_exclusive_group()
        content.add_argument("data", nargs="?", help="the event's data, as JSON; null where it is left out")
        content.add_argument("--text", help="a text in place of data, sent as it is")

    def handle(self, *, topic: str, event: str, data: str | None, text: str | None, **_: Any) -> None:
        """Send it; raise CommandError with what to do where that is impossible."""
        try:
            value = None if data is None else json.loads(data)
        except ValueError as error:
            raise CommandError(
                f"DATA is no JSON ({error}): quote it for the shell, or send a text with --text"
            ) from error
        if not get_history().shared:
            raise CommandError(
                "Nobody would hear it: the history is in the memory of each process. Configure a channel "
                "layer and a history that processes share: see CHANNEL_LAYERS and DJANGO_SSE['HISTORY'] in "
                "the documentation."
            )
        try:
            send_event(topic, event, value, text=text, on_commit=False)
        except SSEError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(self.style.SUCCESS(f"Sent {event} to {topic}"))
