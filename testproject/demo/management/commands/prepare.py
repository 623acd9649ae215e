"""`manage.py prepare`: the made-up accounts and the first articles."""

from datetime import timedelta

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from django.utils import timezone

from testproject.demo.accounts import ACCOUNTS
from testproject.demo.models import Article

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


class Command(BaseCommand):
    """Make what the demo needs, where it is missing; a second run changes nothing."""

    help = "Make the two made-up accounts, and the first articles where there are none."

    def handle(self, *_: object, **__: object) -> None:
        """Make the accounts, then the articles."""
        users = get_user_model().objects
        for account in ACCOUNTS:
            user, created = users.get_or_create(
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
        if not Article.objects.exists():
            now = timezone.now()
            # bulk_create sends no signals, so no events: no page is open yet that could hear them.
            Article.objects.bulk_create(
                Article(title=title, body=body, published=now - timedelta(minutes=minutes))
                for minutes, title, body in FIRST_ARTICLES
            )
            self.stdout.write(f"Wrote {len(FIRST_ARTICLES)} articles.")
