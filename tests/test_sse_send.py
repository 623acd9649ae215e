"""One command sends an event from a shell, or says what to do."""

import asyncio
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from django_sse.history import Gone, MemoryHistory, get_history
from django_sse.positions import Entry, Position


class SharedHistory(MemoryHistory):
    """A history that says of itself that processes share it."""

    shared = True


@pytest.fixture
def start(settings: Settings) -> Position:
    """Return where the board stands, in a history that is shared."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{__name__}.SharedHistory"}}
    return get_history().tail(["board"])["board"]


def sent(start: Position) -> list[Entry]:
    """Return what was sent to the board."""
    page = asyncio.run(get_history().read("board", start, limit=10))
    assert not isinstance(page, Gone)
    return list(page.entries)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (['{"id": 5, "title": "ä"}'], '{"id":5,"title":"ä"}'),
        (["[1, null]"], "[1,null]"),
        ([], "null"),
        (["--text", "as it is"], "as it is"),
        (["--text", ""], ""),
    ],
)
def test_sends_data_or_a_text(start: Position, content: list[str], text: str) -> None:
    """Data is JSON, a text is verbatim, and the command says what it did."""
    out = StringIO()
    call_command("sse_send", "board", "notice-created", *content, stdout=out)

    (entry,) = sent(start)
    assert (entry.event.name, entry.event.text) == ("notice-created", text)
    assert out.getvalue() == "Sent notice-created to board\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["board", "tick", "{id: 5}"], "quote it for the shell, or send a text with --text"),
        (["no topic!", "tick"], "topic"),
        (["board", "sse-open"], "is reserved"),
        (["board", "tick", "1", "--text", "one"], "not allowed with argument"),
    ],
)
def test_says_what_is_wrong(start: Position, arguments: list[str], told: str) -> None:
    """A mistake is an error of one line, and nothing is sent."""
    with pytest.raises(CommandError, match=told):
        call_command("sse_send", *arguments)
    assert sent(start) == []


def test_a_history_in_memory_is_nobodys(settings: Settings) -> None:
    """Where the event would end with the command, it is refused, with what to configure."""
    settings.DJANGO_SSE = {}
    with pytest.raises(CommandError, match=r"Nobody would hear it: .* see CHANNEL_LAYERS"):
        call_command("sse_send", "board", "tick")
