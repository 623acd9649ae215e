"""A stream in other words is the same stream: its events, their order and their ids are."""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest
from pytest_django import Settings

from django_sse import dialects, followers, hub
from django_sse.conf import get_settings
from django_sse.dialects import ENVELOPE, Dialect
from django_sse.positions import Cursor
from django_sse.signals import stream_closed, stream_opened
from django_sse.streams import IteratorStream, Stream, WordedStream
from django_sse.wire import Event, Message
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually, turns

HEARTBEAT = b'data: {"e":"sse-heartbeat","d":""}\n\n'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a fiftieth of the usual time before a healing."""
    monkeypatch.setattr(followers, "GRACE", 0.001)
    monkeypatch.setattr(hub, "GRACE", 0.001)


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub, whose own tickers do not come in the test's time."""
    async with open_exchange(settings, CHECK=3600, HEARTBEAT=3600) as exchange:
        yield exchange


class Counting:
    """A dialect that says everything twice, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.dialect = Dialect(self.word)

    def word(self, event: Event) -> Event:
        """Word an event of a project."""
        if event.reserved:
            return event
        self.asked.append(event.text)
        return Event(name=event.name, text=event.text * 2)


def make(
    *topics: str, dialect: Dialect | None = ENVELOPE, max_pending: int = 10**6, **options: Any
) -> Stream:
    """Return a stream in a dialect."""
    settings = replace(get_settings(), MAX_PENDING=max_pending)
    if dialect is None:
        return Stream(topics, settings=settings, **options)
    return WordedStream(topics, settings=settings, dialect=dialect, **options)


async def connect(*topics: str, **options: Any) -> Client:
    """Return a client whose stream of topics has begun."""
    client = Client(make(*topics, **options)).open()
    await eventually(lambda: client.messages)
    return client


def opened(client: Client) -> list[Message]:
    """Return the messages of a client as if they had come without their envelopes."""
    assert set(client.names) == {"message"}
    letters = [(json.loads(message.text), message.id) for message in client.messages]
    return [Message(name=letter["e"], text=letter["d"], id=id_) for letter, id_ in letters]


@pytest.mark.parametrize("topics", [["a"], ["a", "b"]])
async def test_the_envelope_changes_nothing_else(exchange: Exchange, topics: list[str]) -> None:
    """Live, from the history and after a reset: the events are the same, one by one, and so are their ids."""
    exchange.publish("a", "a:early", 'a:"quoted"\nlines')
    gone = Cursor.of({"a": (await exchange.history.aappend("b", Event(text="x"))).position})  # type: ignore[union-attr]
    options = {"cursor": gone, "malformed": True}
    plain = await connect(*topics, dialect=None, **options)
    worded = await connect(*topics, **options)
    await eventually(lambda: len(plain.named("sse-reset")) == 2 and len(worded.messages) > 2)
    for text in ("1", "2"):
        for topic in topics:
            exchange.publish(topic, f"{topic}:{text}")
    last = f"{topics[-1]}:2"
    await eventually(lambda: plain.texts[-1:] == [last] and opened(worded)[-1].text == last)

    assert opened(worded) == plain.messages


async def test_catching_up_is_worded(exchange: Exchange) -> None:
    """A client that comes back with an id gets what it missed, and its next id is a cursor."""
    [first, *_] = exchange.publish("a", "a:1", "a:2", "a:3")
    cursor = Cursor.of({"a": first.position})
    client = await connect("a", cursor=cursor)
    await eventually(lambda: len(client.messages) == 3)

    assert [message.text for message in opened(client)[1:]] == ["a:2", "a:3"]
    assert Cursor.parse(client.parser.last_event_id) == Cursor.of({"a": exchange.history.tail(["a"])["a"]})


async def test_first_states_are_worded(exchange: Exchange) -> None:
    """What a view gives first is an event like the others."""

    async def state(topics: Iterable[str]) -> list[Event]:
        return [Event(name="count", text=" ".join(topics))]

    client = await connect("a", first_state=state)
    await eventually(lambda: len(client.messages) == 2)

    assert [(message.name, message.text) for message in opened(client)][1:] == [("count", "a")]


async def test_heartbeats_are_messages(exchange: Exchange) -> None:
    """Who sees only messages sees them too; they have no id, so the last one stays."""
    client = await connect("a")
    exchange.publish("a", "a:1")
    await eventually(lambda: len(client.messages) == 2)
    before = client.parser.last_event_id
    for _ in range(2):
        client.stream.beat(exchange.hub.loop.time())
        await turns()

    assert client.writes[-1] == HEARTBEAT
    assert opened(client)[-1] == Message(name="sse-heartbeat", text="", id=before)


async def test_the_end_is_worded(exchange: Exchange) -> None:
    """Why a stream ends is told likewise, of topics and of an iterator, and the last id stays."""

    async def events() -> AsyncIterator[str]:
        yield "one"

    client = await connect("a")
    client.stream.end("shutdown", retry=1)
    step = Client(IteratorStream(events(), dialect=ENVELOPE)).open()
    await eventually(lambda: client.done and step.done)

    assert json.loads(opened(client)[-1].text) == {"reason": "shutdown", "reconnect": True}
    assert [(message.name, message.id) for message in opened(step)] == [("message", ""), ("sse-close", "end")]


async def test_a_slow_client_is_bounded_by_what_is_written(exchange: Exchange) -> None:
    """Words that are longer than ours spill as early as they must, and all of them arrive."""
    counting = Counting()
    client = await connect("a", dialect=counting.dialect, max_pending=1000)
    client.stall()
    client.stream.put_bytes(b":\n")
    client.stream.schedule()
    await turns()
    texts = [f"a:{number}".ljust(120, "x") for number in range(6)]
    for text in texts:
        exchange.publish("a", text)
        await turns()
    assert exchange.hub.counters.spills == 1, "720 bytes of ours, 1,440 of theirs"
    client.read()
    await eventually(lambda: len(client.texts) == 6)

    assert client.texts == [text * 2 for text in texts]


async def test_an_entry_is_worded_once(exchange: Exchange) -> None:
    """Streams of one dialect share the words, live and from the history; others are not even asked."""
    counting = Counting()
    clients = [await connect("a", dialect=counting.dialect) for _ in range(3)]
    plain = await connect("a", dialect=None)
    [first, second] = exchange.publish("a", "1", "2" * dialects._SMALL)
    await eventually(lambda: all(len(client.texts) == 2 for client in [*clients, plain]))
    assert counting.asked == [first.event.text, second.event.text]

    exchange.publish("a", "3")
    await eventually(lambda: all(len(client.texts) == 3 for client in clients))
    late = [
        await connect("a", dialect=counting.dialect, cursor=Cursor.of({"a": second.position})) for _ in "ab"
    ]
    await eventually(lambda: all(client.texts == ["33"] for client in late))
    assert counting.asked[2:] == ["3"]
    assert plain.texts == ["1", second.event.text, "3"]


async def test_what_does_not_fit_is_not_worded(exchange: Exchange) -> None:
    """A client far behind gets everything, as much as fits at a time, and each entry is worded about once."""
    counting = Counting()
    texts = [f"a:{number}".ljust(dialects._SMALL, "x") for number in range(20)]
    [first, *_] = exchange.publish("a", "a:0", *texts)
    room = 5 * dialects._SMALL
    client = await connect(
        "a", dialect=counting.dialect, max_pending=room, cursor=Cursor.of({"a": first.position})
    )
    await eventually(lambda: len(client.texts) == len(texts))

    assert client.texts == [text * 2 for text in texts]
    assert len(counting.asked) <= 2 * len(texts), "not the whole page for each part of it"


async def test_one_that_is_larger_than_the_room_arrives(exchange: Exchange) -> None:
    """As it does in our own words: alone."""
    counting = Counting()
    [first, *_] = exchange.publish("a", "a:0", "a:1" * 300, "a:2")
    cursor = Cursor.of({"a": first.position})
    client = await connect("a", dialect=counting.dialect, max_pending=1000, cursor=cursor)
    await eventually(lambda: len(client.texts) == 2)

    assert client.texts == ["a:1" * 600, "a:2" * 2]


async def test_signals_name_it_as_any_stream_of_topics(exchange: Exchange) -> None:
    """A receiver for streams of topics hears of it, whatever its words are."""
    heard: list[object] = []

    def note(*, sender: object, **given: object) -> None:
        heard.append(sender)

    stream_opened.connect(note, sender=Stream)
    stream_closed.connect(note, sender=Stream)
    try:
        client = await connect("a")
        client.stream.close()
        await eventually(lambda: len(heard) == 2)
    finally:
        stream_opened.disconnect(note, sender=Stream)
        stream_closed.disconnect(note, sender=Stream)
