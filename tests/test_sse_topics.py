"""One command lists who may follow what."""

from functools import partial
from io import StringIO

import pytest
from django.core.management import call_command
from django.http import HttpRequest

from django_sse import access
from django_sse.access import allow


def member(request: HttpRequest, **captured: object) -> bool:
    """Refuse."""
    return False


def listed() -> list[str]:
    """Return the lines of the command."""
    out = StringIO()
    call_command("sse_topics", stdout=out)
    return out.getvalue().splitlines()


def test_lists_each_rule_with_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns stand in the order of their registration, each with its function's full name."""
    monkeypatch.setattr(access, "_rules", [])
    allow("news", public=True)
    allow("room.<int:pk>.staff")(member)
    allow("shop")(partial(member))

    assert listed() == [
        "user.<pk>            that user alone",
        "news                 everybody",
        f"room.<int:pk>.staff  {__name__}.member",
        "shop                 functools.partial",
    ]


def test_without_rules_there_are_the_users_own_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need none."""
    monkeypatch.setattr(access, "_rules", [])

    assert listed() == ["user.<pk>  that user alone"]
