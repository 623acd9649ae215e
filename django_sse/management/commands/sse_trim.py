"""Put a history in a database in order: nothing too old, nothing left behind."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_sse.exceptions import HistoryError
from django_sse.hearing import ring
from django_sse.history import get_history


class Command(BaseCommand):
    """Send what was left in the outbox, and remove old entries and keys, in bounded slices."""

    help = (
        "Remove entries and keys that the history in the database no longer promises, and send events that "
        "processes left in the outbox when they died. Processes that serve streams do both, a slice at a "
        "time; run this where none does, or where they do not keep up."
    )

    def handle(self, **_: Any) -> None:
        """Go on until nothing is left."""
        history = get_history()
        sent = removed = 0
        try:
            if history.outbox is not None:
                for entry in history.outbox.sweep():
                    sent += 1
                    ring(entry)
            while count := history.trim():
                removed += count
        except HistoryError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Sent {sent} events that were left, removed {removed} rows.")
