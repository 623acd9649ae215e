"""Remove what a history in a database no longer promises."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_sse.exceptions import HistoryError
from django_sse.history import get_history


class Command(BaseCommand):
    """Remove old entries and keys from a history in a database, in bounded slices."""

    help = (
        "Remove entries and keys that the history in the database no longer promises. Processes that serve "
        "streams do this too, a slice each minute; run it where none does, or where they do not keep up."
    )

    def handle(self, **_: Any) -> None:
        """Trim until nothing is left to trim."""
        trim, count = get_history().trim, 0
        try:
            while removed := trim():
                count += removed
        except HistoryError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Removed {count} rows.")
