"""`manage.py prepare`: the made-up accounts, and what the scenes begin with."""

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.db.models import Model
from django.utils import timezone

from testproject.demo.accounts import ACCOUNTS, Account
from testproject.demo.models import Article, Job, Match, Message

# Minutes ago, title, body.
FIRST_ARTICLES = (
    (
        4,
        "Moth taken out of relay 70",
        "Service resumed at 15:45. The moth is in the log book, and nobody who followed missed an entry.",
    ),
    (
        37,
        "Otter Ferries adds a night crossing",
        "The last boat leaves at 23:40. Shares in OTTR moved; being simulated, they always do.",
    ),
    (
        128,
        "Note G runs at the first attempt",
        "The table of Bernoulli numbers came out as written. The engine for it is still being built.",
    ),
)
FIRST_MATCHES = (
    ("Analytical United", "Difference City", 2, 1),
    ("Jacquard Weavers", "Harvard Relays", 0, 0),
    ("Bletchley Bombes", "Turing Rovers", 3, 3),
    ("Apollo Guidance", "Bernoulli Numbers", 1, 0),
)
FIRST_MESSAGES = (
    ("grace", "Found the bug. It had wings."),
    ("ada", "The engine weaves algebraical patterns, as the loom weaves flowers and leaves."),
    ("grace", "It is easier to ask forgiveness than it is to get permission. @ada"),
)


class Command(BaseCommand):
    """Make what the demo needs, where it is missing; a second run changes nothing."""

    help = "Make the two made-up accounts, and the first rows of each scene where there are none."

    def handle(self, *_: object, **__: object) -> None:
        """Make the accounts, then the rows."""
        for account in ACCOUNTS:
            self._make(account)
        # bulk_create sends no signals, so no events: no page is open yet that could hear them.
        now = timezone.now()
        self._fill(
            Article,
            [
                Article(title=title, body=body, published=now - timedelta(minutes=minutes))
                for minutes, title, body in FIRST_ARTICLES
            ],
        )
        self._fill(
            Match,
            [
                Match(home=home, away=away, home_goals=home_goals, away_goals=away_goals)
                for home, away, home_goals, away_goals in FIRST_MATCHES
            ],
        )
        authors = {user.get_username(): user for user in get_user_model().objects.all()}
        self._fill(
            Message,
            [
                Message(author=authors[name], text=text, sent=now - timedelta(minutes=9 - number))
                for number, (name, text) in enumerate(FIRST_MESSAGES)
            ],
        )
        # No thread outlives its process.
        Job.objects.filter(state="running").update(state="failed")

    def _make(self, account: Account) -> None:
        user, created = get_user_model().objects.get_or_create(
            username=account.username,
            defaults={
                "first_name": account.name,
                "is_staff": account.staff,
                "is_superuser": account.staff,
            },
        )
        if created:
            user.set_unusable_password()
            user.save(update_fields=["password"])
            self.stdout.write(f"Made the account {account.name} ({account.role}).")

    def _fill(self, model: type[Model], rows: list[Any]) -> None:
        if not model._base_manager.exists():
            model._base_manager.bulk_create(rows)
            self.stdout.write(f"Wrote {len(rows)} {model._meta.verbose_name_plural}.")
