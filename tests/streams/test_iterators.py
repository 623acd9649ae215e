"""A project's own async iterator is streamed at its client's pace, and is always brought to its end."""

import asyncio
import contextvars
import json
import logging
from collections.abc import AsyncIterator

import pytest
from pytest_django import Settings

from django_sse.streams import END_ID, IteratorStream, Streamable
from django_sse.wire import HEARTBEAT, Event
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually, turns


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub, whose own tickers do not come in the test's time."""
    async with open_exchange(settings, HEARTBEAT=3600, MAX_EVENT=1000) as exchange:
        yield exchange


class Source:
    """An async generator whose steps and end can be seen."""

    def __init__(self, *items: Streamable, fault: BaseException | None = None) -> None:
        self.items = items
        self.fault = fault
        self.given = 0
        self.began = False
        self.ended = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def events(self) -> AsyncIterator[Streamable]:
        """Give the items, then fail where it shall."""
        self.began = True
        try:
            for item in self.items:
                await self.gate.wait()
                self.given += 1
                yield item
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault
        finally:
            self.ended = True


def closing(client: Client) -> dict[str, object]:
    """Return what a client's last event, which is `sse-close`, says."""
    last = client.messages[-1]
    assert (last.name, last.id) == ("sse-close", END_ID)
    return dict(json.loads(last.text))


async def test_gives_what_the_iterator_gives(exchange: Exchange) -> None:
    """Events keep their names, texts stay as they are, anything else is JSON; the end is told for good."""
    source = Source(Event(name="step", text="1"), "two\nlines", {"three": 3}, ["four"])  # type: ignore[arg-type]
    client = Client(IteratorStream(source.events())).open()

    await eventually(lambda: client.done)
    await turns()
    assert client.writes[0].startswith(b"retry: ")
    assert [(message.name, message.text) for message in client.messages[:-1]] == [
        ("step", "1"),
        ("message", "two\nlines"),
        ("message", '{"three":3}'),
        ("message", '["four"]'),
    ]
    assert closing(client) == {"reason": "end", "reconnect": False}
    assert source.ended
    assert not exchange.hub.streams


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        (("1",), RuntimeError("a bug")),
        (("1", Event(name="sse-open", text="")), None),
        (("1", Event(name="error", text="")), None),
        (("1", {"not": {"JSON"}}), None),
        (("1", "x" * 2000), None),
        (("1", "\0"), None),
        (("1",), asyncio.CancelledError("of something else")),
    ],
    ids=["raises", "reserved", "EventSource's own", "not JSON", "too large", "NUL", "cancels"],
)
async def test_what_fails_is_logged_and_told(
    exchange: Exchange,
    items: tuple[Streamable, ...],
    fault: BaseException | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of the iterator, or an item that is no event, ends the stream; it is never silent."""
    source = Source(*items, fault=fault)
    client = Client(IteratorStream(source.events())).open()

    await eventually(lambda: client.done)
    await turns()
    assert client.texts == ["1"]
    assert closing(client) == {"reason": "error", "reconnect": False}
    assert source.ended
    assert "The iterator of an event stream failed" in caplog.text


async def test_a_slow_client_slows_the_iterator(exchange: Exchange) -> None:
    """While its client does not read, an iterator runs one event ahead, and no further."""
    source = Source(*(str(number) for number in range(10)))
    client = Client(IteratorStream(source.events())).open()
    client.stall()
    await turns(100)
    assert source.given <= 2
    client.read()

    await eventually(lambda: client.done)
    await turns()
    assert client.texts == [str(number) for number in range(10)]


async def test_heartbeats_while_the_iterator_is_slow(exchange: Exchange) -> None:
    """An iterator that thinks for minutes does not make its connection look dead."""
    source = Source("1")
    source.gate.clear()
    client = Client(IteratorStream(source.events())).open()
    await turns()
    for _ in range(3):
        client.stream.beat(exchange.hub.loop.time())
        await turns()
    assert b"".join(client.writes).count(HEARTBEAT) == 1
    source.gate.set()

    await eventually(lambda: client.done)
    await turns()
    assert client.texts == ["1"]


class Steps:
    """An async iterable that is no iterator itself."""

    def __init__(self, iterator: AsyncIterator[Streamable]) -> None:
        self.iterator = iterator

    def __aiter__(self) -> AsyncIterator[Streamable]:
        """Begin."""
        return self.iterator


class Bare:
    """An async iterator without `aclose`."""

    def __init__(self) -> None:
        self.given = 0

    def __aiter__(self) -> "Bare":
        """Return itself."""
        return self

    async def __anext__(self) -> str:
        """Give two texts."""
        if self.given == 2:
            raise StopAsyncIteration
        self.given += 1
        return str(self.given)


async def test_an_iterator_without_aclose(exchange: Exchange) -> None:
    """Any async iterable will do."""
    client = Client(IteratorStream(Bare())).open()

    await eventually(lambda: client.done)
    await turns()
    assert client.texts == ["1", "2"]


@pytest.mark.parametrize("waits", ["for the client", "by itself"])
@pytest.mark.parametrize("iterable", [False, True])
async def test_a_client_that_goes_ends_the_iterator(
    exchange: Exchange, *, iterable: bool, waits: str
) -> None:
    """When its client goes, an iterator's `finally` runs at once, wherever it was; no collector decides."""
    source = Source("1", "2")
    if waits == "by itself":
        source.gate.clear()
    kept = source.events()  # so that nothing collects it
    client = Client(IteratorStream(Steps(kept) if iterable else kept)).open()
    client.stall()
    await eventually(lambda: source.began)
    await turns()
    client.stream.close()
    await turns()

    assert source.ended
    assert not exchange.hub.streams


async def test_an_iterator_has_no_age(exchange: Exchange) -> None:
    """It ends by itself: sent back by MAX_AGE, its client would begin it anew."""
    source = Source("1")
    source.gate.clear()
    client = Client(IteratorStream(source.events())).open()
    await eventually(lambda: source.began)
    client.stream.beat(exchange.hub.loop.time() + 1e9)
    source.gate.set()

    await eventually(lambda: client.done)
    await turns()
    assert client.texts == ["1"]
    assert closing(client) == {"reason": "end", "reconnect": False}


async def test_an_end_from_outside_ends_the_iterator(exchange: Exchange) -> None:
    """A stream that is ended, as when the server stops, does not leave its iterator running."""
    source = Source("1")
    source.gate.clear()
    client = Client(IteratorStream(source.events())).open()
    await eventually(lambda: source.began)
    client.stream.end("drain")

    await eventually(lambda: client.done)
    await turns()
    assert source.ended
    assert client.named("sse-close") == ['{"reason":"drain","reconnect":true}']


async def test_a_fault_while_it_is_ended_is_logged(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    """An iterator whose `finally` raises harms nobody, and is not silent."""

    async def events() -> AsyncIterator[str]:
        try:
            yield "1"
        finally:
            raise RuntimeError

    client = Client(IteratorStream(events())).open()
    client.stall()
    await turns()
    client.stream.close()
    await turns()

    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "The iterator of an event stream failed" in caplog.text


async def test_an_iterator_that_was_never_opened_never_runs(exchange: Exchange) -> None:
    """A response that is not sent, as for HEAD, starts nothing."""
    source = Source("1")
    client = Client(IteratorStream(source.events()))
    client.stream.close()
    client.open()
    await turns()

    assert not source.began
    assert client.finished


_request: contextvars.ContextVar[str] = contextvars.ContextVar("_request", default="none")


async def test_runs_in_its_requests_context(exchange: Exchange) -> None:
    """A project's code sees its own context variables, such as the language of the request."""

    async def events() -> AsyncIterator[str]:
        yield _request.get()

    _request.set("this one")
    client = Client(IteratorStream(events())).open()

    await eventually(lambda: client.done)
    await turns()
    assert client.texts == ["this one"]
