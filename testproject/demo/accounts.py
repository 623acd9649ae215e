"""The two made-up accounts, which one click signs in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A made-up person: no password, no mail address, nobody's real account."""

    username: str
    name: str
    role: str
    staff: bool


ACCOUNTS = (
    Account(username="ada", name="Ada", role="editor", staff=True),
    Account(username="grace", name="Grace", role="reader", staff=False),
)
USERNAMES = frozenset(account.username for account in ACCOUNTS)
