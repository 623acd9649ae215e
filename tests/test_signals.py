"""A project is told of every event that was sent and of every stream's beginning and end."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.dispatch import Signal
from pytest_django import Settings

from django_sse import Event, asend_event, send_event
from django_sse.conf import get_settings
from django_sse.exceptions import HistoryError
from django_sse.positions import Entry
from django_sse.signals import event_sent, stream_closed, stream_opened
from django_sse.streams import BaseStream, IteratorStream, Stream
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually, turns


class Log:
    """Notes signals, by plain functions or by coroutines."""

    def __init__(self) -> None:
        self.notes: list[tuple[Signal, Any, dict[str, Any]]] = []
        self.connected: list[tuple[Signal, Any]] = []

    def connect(self, signal: Signal, *, plain: bool = False, fault: bool = False) -> None:
        """Receive a signal."""

        def note(*, sender: Any, **given: Any) -> None:
            assert given.pop("signal") is signal
            self.notes.append((signal, sender, given))
            if fault:
                message = "a receiver's bug"
                raise RuntimeError(message)

        async def anote(**given: Any) -> None:
            note(**given)

        receiver = note if plain else anote
        signal.connect(receiver, weak=False)
        self.connected.append((signal, receiver))

    def disconnect(self) -> None:
        """Receive nothing any more."""
        for signal, receiver in self.connected:
            signal.disconnect(receiver)

    def of(self, stream: BaseStream) -> list[Signal]:
        """Return the signals of a stream, in order."""
        return [signal for signal, _, given in self.notes if given.get("stream") is stream]


@pytest.fixture
def log() -> Iterator[Log]:
    """Return a log, which ends with the test."""
    log = Log()
    yield log
    log.disconnect()


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test."""
    async with open_exchange(settings, HEARTBEAT=3600) as exchange:
        yield exchange


def make() -> Stream:
    """Return a stream."""
    return Stream(["news"], settings=get_settings())


async def steps() -> AsyncIterator[str]:
    """Give one text."""
    yield "1"


@pytest.mark.parametrize("plain", [False, True])
async def test_a_streams_beginning_and_end(exchange: Exchange, log: Log, *, plain: bool) -> None:
    """Each stream is told of once when it has its positions and once when it is over, whoever ends it."""
    log.connect(stream_opened, plain=plain)
    log.connect(stream_closed, plain=plain)
    ends: list[Callable[[Stream], None]] = [Stream.close, lambda stream: stream.end("age")]
    for end in ends:
        stream = make()
        Client(stream).open()
        await eventually(lambda: log.of(stream))  # noqa: B023  (awaited here)
        assert log.notes[-1] == (stream_opened, Stream, {"stream": stream})
        assert stream.topics == ("news",)
        end(stream)
        stream.close()
        await eventually(lambda: stream_closed in log.of(stream))  # noqa: B023  (awaited here)
        await turns()
        assert log.of(stream) == [stream_opened, stream_closed]
        assert log.notes[-1] == (stream_closed, Stream, {"stream": stream})


async def test_an_iterators_beginning_and_end(exchange: Exchange, log: Log) -> None:
    """The streams of a project's own iterators are told of by their own class."""
    log.connect(stream_opened)
    log.connect(stream_closed)
    client = Client(IteratorStream(steps())).open()
    await eventually(lambda: client.done)

    await eventually(lambda: log.of(client.stream) == [stream_opened, stream_closed])
    assert {sender for _, sender, _ in log.notes} == {IteratorStream}


@pytest.mark.parametrize("how", ["close", "end"])
async def test_a_stream_that_never_began_is_not_told_of(exchange: Exchange, log: Log, how: str) -> None:
    """Who counts streams by the two signals counts right: without a beginning there is no end."""
    log.connect(stream_opened)
    log.connect(stream_closed)
    exchange.history.fault = HistoryError("down")
    client = Client(make()).open()
    await turns()
    if how == "close":
        client.stream.close()
    else:
        client.stream.end("age")
    await turns()

    assert log.notes == []


async def test_a_receiver_that_connects_late(exchange: Exchange, log: Log) -> None:
    """The end is told also to those who were not there at the beginning."""
    client = Client(make()).open()
    await eventually(lambda: client.names)
    log.connect(stream_closed)
    client.stream.close()

    await eventually(lambda: log.of(client.stream) == [stream_closed])


@pytest.mark.parametrize("plain", [False, True])
async def test_a_receiver_that_fails_harms_no_stream(
    exchange: Exchange, log: Log, caplog: pytest.LogCaptureFixture, *, plain: bool
) -> None:
    """What a receiver raises is logged, and the stream and the other receivers go on."""
    log.connect(stream_opened, plain=plain, fault=True)
    log.connect(stream_opened)
    client = Client(make()).open()
    await eventually(lambda: len(log.notes) == 2)
    await turns()

    assert "a receiver's bug" in caplog.text
    exchange.publish("news", "1")
    await eventually(lambda: client.texts == ["1"])


# -- events ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True])
async def test_events_are_told_of_when_they_stand(exchange: Exchange, log: Log, *, plain: bool) -> None:
    """Each sent event is told of once per topic, with its entry in the history."""
    log.connect(event_sent, plain=plain)
    await asend_event(["news", "prices"], "order-updated", {"id": 5})

    entries: list[Entry] = [given["entry"] for _, _, given in log.notes]
    assert [entry.topic for entry in entries] == ["news", "prices"]
    assert {entry.event for entry in entries} == {Event(name="order-updated", text='{"id":5}')}
    assert exchange.history.tail(["news", "prices"]) == {entry.topic: entry.position for entry in entries}
    assert {sender for _, sender, _ in log.notes} == {Entry}


def test_events_of_plain_code(log: Log, settings: Settings) -> None:
    """Plain code tells of its events too."""
    settings.DJANGO_SSE = {}
    log.connect(event_sent, plain=True)
    send_event("news", "hello")

    assert [given["entry"].event.name for _, _, given in log.notes] == ["hello"]


async def test_an_event_that_is_dropped_is_not_told_of(exchange: Exchange, log: Log) -> None:
    """An event whose version is stale was not sent."""
    log.connect(event_sent)
    for version in (2, 1, 3):
        await asend_event("news", "order", version, key="order.5", version=version)

    assert [given["entry"].event.text for _, _, given in log.notes] == ["2", "3"]


async def test_a_receiver_that_fails_harms_no_event(
    exchange: Exchange, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """What a receiver of an event raises is logged, and the sender does not hear of it."""
    log.connect(event_sent, fault=True)
    with caplog.at_level(logging.ERROR):
        await asend_event("news", "hello")

    assert "a receiver's bug" in caplog.text
    assert len(log.notes) == 1
