"""A stream gives each topic in order, nothing missing and nothing twice, or says loudly that it cannot."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import replace
from typing import Any

import pytest
from pytest_django import Settings

from django_sse import fan_out, followers, hub
from django_sse.conf import get_settings
from django_sse.exceptions import HistoryError
from django_sse.positions import Batch, Cursor, Position, topic_hash
from django_sse.streams import Stream
from django_sse.wire import Event
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually, turns


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a fiftieth of the usual time before a healing."""
    monkeypatch.setattr(followers, "GRACE", 0.001)
    monkeypatch.setattr(hub, "GRACE", 0.001)


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub, whose own tail check does not come in the test's time."""
    async with open_exchange(settings, CHECK=3600) as exchange:
        yield exchange


def make(*topics: str, cursor: str | None = None, max_pending: int | None = None, **options: Any) -> Stream:
    """Return a stream, resumed from a cursor's text."""
    settings = get_settings()
    if max_pending is not None:
        settings = replace(settings, MAX_PENDING=max_pending)
    parsed = None if cursor is None else Cursor.parse(cursor)
    return Stream(topics, settings=settings, cursor=parsed, **options)


async def connect(*topics: str, **options: Any) -> Client:
    """Return a client whose stream of topics has begun."""
    client = Client(make(*topics, **options)).open()
    await eventually(lambda: "sse-open" in client.names)
    return client


async def make_busy(client: Client) -> None:
    """Let a client stall in front of one write."""
    await turns()
    client.stall()
    client.stream.put_bytes(b":\n")
    client.stream.schedule()
    await turns()
    assert not client.free


def places(client: Client) -> dict[str, bool]:
    """Return which topics of a client's stream are live."""
    assert isinstance(client.stream, Stream)
    return {topic: place.live for topic, place in sorted(client.stream._places.items())}


def cursor_of(**positions: Position) -> str:
    """Return a cursor's text."""
    return Cursor.of(positions).encode()


def position_of(cursor: str, topic: str) -> Position | None:
    """Return what a cursor's text says of a topic."""
    return Cursor.parse(cursor).get(topic)


# -- the beginning -----------------------------------------------------------------------------------


async def test_a_fresh_stream_is_live_at_once(exchange: Exchange) -> None:
    """Without a cursor a stream begins at the end of its topics, says so first, and asks nobody."""
    (old,) = exchange.publish("a", "a:old")
    client = await connect("a", "b", refused=["c"])

    assert client.writes[0].startswith(b"retry: ")
    opening = client.messages[0]
    assert json.loads(opening.text) == {
        "topics": ["a", "b"],
        "hashes": [topic_hash("a"), topic_hash("b")],
        "fresh": ["a", "b"],
        "refused": ["c"],
        "heartbeat": get_settings().HEARTBEAT,
    }
    assert position_of(opening.id, "a") == old.position
    assert places(client) == {"a": True, "b": True}

    exchange.publish("a", "a:1")
    exchange.publish("b", "b:1")
    await eventually(lambda: client.texts == ["a:1", "b:1"])
    assert exchange.history.reads == []


async def test_retry_is_spread(exchange: Exchange) -> None:
    """Streams that were cut together do not all come back in the same moment."""
    seen = set()
    for _ in range(20):
        client = await connect("a")
        assert client.parser.retry is not None
        assert 2.25 <= client.parser.retry <= 3.75
        seen.add(client.parser.retry)

    assert len(seen) > 5


async def test_an_entry_that_is_offered_again_is_ignored(exchange: Exchange) -> None:
    """The very entry that a stream has queued last changes nothing; any other sends it to the history."""
    client = await connect("a")
    (one,) = exchange.publish("a", "a:1")
    stream = client.stream
    assert isinstance(stream, Stream)
    stream.offer("a", Batch([one]))
    stream.offer("unknown", Batch([one]))
    stream.suspect("unknown")
    await eventually(lambda: client.texts == ["a:1"])
    assert places(client) == {"a": True}
    assert exchange.history.reads == []

    (two,) = exchange.publish("a", "a:2")
    await eventually(lambda: client.texts == ["a:1", "a:2"])
    stream.offer("a", Batch([one]))
    assert places(client) == {"a": False}, "LIVE means equal: an older entry may mean a rollback"
    await eventually(lambda: places(client) == {"a": True})
    assert exchange.history.reads == [("a", two.position)]
    assert client.texts == ["a:1", "a:2"]


async def test_a_topic_that_is_named_twice_counts_once(exchange: Exchange) -> None:
    """The same topic twice is one topic, whose events come once."""
    client = await connect("a", "a")
    exchange.publish("a", "a:1")

    await eventually(lambda: client.texts)
    await turns()
    assert client.texts == ["a:1"]


async def test_a_resumed_stream_has_everything_since_its_cursor(exchange: Exchange) -> None:
    """What was sent while the client was away comes first, then what is live; the cursor says from where."""
    exchange.publish("a", "a:1")
    client = await connect("a")
    exchange.publish("a", "a:2")
    await eventually(lambda: client.texts == ["a:2"])
    last = client.cut()
    exchange.publish("a", "a:3", "a:4")

    client = await connect("a", cursor=last)
    assert client.messages[0].id == last
    told = json.loads(client.messages[0].text)
    assert (told["topics"], told["fresh"], told["refused"]) == (["a"], [], [])
    await eventually(lambda: places(client)["a"])
    exchange.publish("a", "a:5")
    await eventually(lambda: client.texts == ["a:3", "a:4", "a:5"])


async def test_a_cursor_may_know_only_some_of_the_topics(exchange: Exchange) -> None:
    """A topic that is new to the client starts fresh, beside those that are resumed."""
    client = await connect("a")
    last = client.cut()
    exchange.publish("a", "a:1")
    exchange.publish("b", "b:missed, and nobody was there")

    client = await connect("a", "b", cursor=last)
    assert json.loads(client.messages[0].text)["fresh"] == ["b"]
    exchange.publish("b", "b:1")
    await eventually(lambda: sorted(client.texts) == ["a:1", "b:1"])


async def test_a_topic_that_is_no_longer_followed_is_ignored(exchange: Exchange) -> None:
    """A cursor's parts of other topics are no error, and are not carried on."""
    client = await connect("a", "b")
    last = client.cut()

    client = await connect("b", cursor=last)
    assert position_of(client.messages[0].id, "a") is None
    assert "sse-reset" not in client.names
    exchange.publish("b", "b:1")
    await eventually(lambda: client.texts == ["b:1"])


async def test_publishing_while_catching_up(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is published during each read, replay and live join without a gap or a double."""
    monkeypatch.setattr(hub, "READ_LIMIT", 3)
    client = await connect("a")
    last = client.cut()
    exchange.publish("a", *(f"a:{number}" for number in range(10)))
    exchange.history.gate.clear()
    client = await connect("a", cursor=last)
    published = 10
    for _ in range(10):
        await eventually(lambda: exchange.history.under_way)
        exchange.publish("a", f"a:{published}")
        published += 1
        exchange.history.gate.set()
        await turns(1)
        exchange.history.gate.clear()
    exchange.history.gate.set()

    await eventually(lambda: places(client)["a"])
    exchange.publish("a", "a:live")
    await eventually(lambda: client.texts[-1] == "a:live")
    assert client.texts[:-1] == [f"a:{number}" for number in range(published)]


async def test_waits_for_the_history_and_has_shown_life(exchange: Exchange) -> None:
    """With the history down at the connect a client has its retry at once, and the rest when it is back."""
    exchange.history.fault = HistoryError("down")
    client = Client(make("a")).open()
    await turns()
    assert client.writes[0].startswith(b"retry: ")
    assert client.messages == []

    exchange.history.fault = None
    await eventually(lambda: "sse-open" in client.names)
    exchange.publish("a", "a:1")
    await eventually(lambda: client.texts == ["a:1"])


@pytest.mark.parametrize("fault", [HistoryError("down"), RuntimeError("a bug")])
async def test_catches_up_when_the_history_is_back(exchange: Exchange, fault: Exception) -> None:
    """A history that fails during a replay delays it, and costs nothing."""
    client = await connect("a")
    last = client.cut()
    exchange.publish("a", "a:1", "a:2")
    exchange.history.fault = fault
    client = await connect("a", cursor=last)
    await eventually(lambda: len(exchange.history.reads) > 2)
    assert client.texts == []

    exchange.history.fault = None
    await eventually(lambda: client.texts == ["a:1", "a:2"])


# -- resets: loss is loud ----------------------------------------------------------------------------


async def test_a_malformed_cursor_is_answered_by_a_reset(exchange: Exchange) -> None:
    """A client whose id does not parse begins at the live end, after it was told so."""
    exchange.publish("a", "a:old")
    client = await connect("a", "b", malformed=True)
    exchange.publish("a", "a:1")
    await eventually(lambda: client.texts == ["a:1"])

    assert client.names == ["sse-open", "sse-reset", "message"]
    assert exchange.hub.snapshot().resets == {"cursor": 1}
    assert json.loads(client.messages[0].text)["fresh"] == ["a", "b"]
    assert json.loads(client.messages[1].text) == {"topics": ["a", "b"], "reason": "cursor"}


@pytest.mark.parametrize(
    "forged",
    [
        Position(offset=0, tag=1),
        Position(offset=1, tag=2),
        Position(offset=2, tag=3),
        Position(offset=3, tag=4),
        Position(offset=2**53 - 1, tag=5),
    ],
)
async def test_a_forged_cursor_is_answered_by_a_reset(exchange: Exchange, forged: Position) -> None:
    """A position that never was in the history is no error: one reset, then everything from the live end."""
    exchange.publish("a", "a:1", "a:2")
    client = await connect("a", cursor=cursor_of(a=forged))
    await eventually(lambda: places(client)["a"])
    (entry,) = exchange.publish("a", "a:3")
    await eventually(lambda: client.texts == ["a:3"])

    assert client.names == ["sse-open", "sse-reset", "message"]
    assert exchange.hub.snapshot().resets == {"history": 1}
    assert json.loads(client.messages[1].text) == {"topics": ["a"], "reason": "history"}
    assert position_of(client.messages[1].id, "a") == Position(offset=2, tag=entry.previous)

    again = await connect("a", cursor=client.cut())
    await eventually(lambda: places(again)["a"])
    assert again.names == ["sse-open"], "never a loop"


async def test_a_trimmed_position_is_answered_by_a_reset_before_anything_later(exchange: Exchange) -> None:
    """A client that was away for longer than the history lasts is told before it sees a later event."""
    client = await connect("a", "b")
    last = client.cut()
    exchange.publish("b", "b:1")
    exchange.publish("a", *(f"a:{number}" for number in range(10)))
    log = exchange.history.snapshot("a")
    for _ in range(5):
        log.drop_oldest()
    exchange.history.restore("a", log)

    client = await connect("a", "b", cursor=last)
    await eventually(lambda: places(client) == {"a": True, "b": True})
    exchange.publish("a", "a:10")
    await eventually(lambda: client.of("a"))
    assert client.of("a") == ["a:10"]
    assert client.of("b") == ["b:1"]
    assert client.names.count("sse-reset") == 1
    assert client.names.index("sse-reset") < [message.text for message in client.messages].index("a:10")


async def test_a_rollback_under_a_live_stream_is_loud(exchange: Exchange) -> None:
    """Where the history loses what a stream has shown already, the stream is reset, and goes on."""
    client = await connect("a", "b")
    saved = exchange.history.snapshot("a")
    exchange.publish("a", "a:1", "a:2")
    await eventually(lambda: client.texts == ["a:1", "a:2"])
    exchange.history.restore("a", saved)
    exchange.history.add("a", "a:other 1")
    await exchange.hub.check()

    await eventually(lambda: "sse-reset" in client.names)
    await eventually(lambda: places(client)["a"])
    exchange.publish("a", "a:3")
    exchange.publish("b", "b:1")
    await eventually(lambda: client.texts == ["a:1", "a:2", "a:3", "b:1"])
    assert client.named("sse-reset") == ['{"topics":["a"],"reason":"history"}']


async def test_a_spilled_reset_is_found_again(exchange: Exchange) -> None:
    """A reset that was dropped with the queue of a slow client comes nonetheless, once, before the rest."""
    known = position_of((await connect("a", "b")).cut(), "b")
    assert known is not None
    exchange.history.add("a", "a:lost")
    exchange.history.gate.clear()
    cursor = cursor_of(a=Position(offset=1, tag=2), b=known)
    stream = make("a", "b", cursor=cursor, first_state=State(), max_pending=600)
    client = Client(stream).open()
    await eventually(lambda: exchange.history.under_way)
    await make_busy(client)
    exchange.history.gate.set()
    await eventually(lambda: any(place.queued != place.sent for place in stream._places.values()))
    exchange.publish("b", *(f"b:{number}" for number in range(50)))
    client.read()

    await eventually(lambda: len(client.of("b")) == 50)
    await eventually(lambda: all(places(client).values()))
    exchange.publish("a", "a:1")
    await eventually(lambda: client.of("a")[-1:] == ["a:1"])
    assert client.named("sse-reset") == ['{"topics":["a"],"reason":"history"}']
    assert exchange.hub.snapshot().resets == {"history": 1}, "one was sent, however many were queued"
    assert exchange.hub.snapshot().spills == 1
    of_a = [message.name for message in client.messages if message.text.startswith(("a:", '{"topics":["a"]'))]
    assert of_a == ["sse-reset", "state", "message"]


# -- ids ---------------------------------------------------------------------------------------------


async def test_every_id_resumes_exactly_behind_its_event(exchange: Exchange) -> None:
    """Whatever event a client has seen last: its cursor gives exactly what it has not seen, by topic."""
    topics = ("a", "b", "c")
    client = await connect(*topics, max_pending=500)
    sent: dict[str, list[str]] = {topic: [] for topic in topics}
    for number in range(40):
        topic = topics[number * number % 3]
        sent[topic].append(f"{topic}:{number}")
        exchange.publish(topic, sent[topic][-1])
        if number % 10 == 3:
            client.stall()
        if number % 10 == 8:
            client.read()
        if number % 4 == 0:
            await turns(2)
    client.read()
    await eventually(lambda: all(client.of(topic) == sent[topic] for topic in topics))
    assert len(client.writes) < 40, "several events left in one write"

    seen: dict[str, int] = dict.fromkeys(topics, 0)
    for message in client.messages:
        if not message.name.startswith("sse-"):
            seen[message.text[0]] += 1
        again = await connect(*topics, cursor=message.id)
        await eventually(lambda: all(places(again).values()))  # noqa: B023  (awaited here)
        await turns(3)
        assert {topic: again.of(topic) for topic in topics} == {
            topic: sent[topic][seen[topic] :] for topic in topics
        }
        assert again.names.count("sse-reset") == 0
        again.cut()


async def test_an_events_own_topic_stands_first_in_its_id(exchange: Exchange) -> None:
    """A script may merge cursors, because each id begins with the position of its very event."""
    client = await connect("a", "b", "c")
    entries = [*exchange.publish("b", "b:1"), *exchange.publish("c", "c:1"), *exchange.publish("b", "b:2")]
    await eventually(lambda: len(client.texts) == 3)

    for message, entry in zip(client.messages[1:], entries, strict=True):
        assert message.id.startswith("1" + entry.segment.decode())
        assert len(Cursor.parse(message.id).positions) == 3


async def test_the_first_id_is_never_ahead_of_the_replay(exchange: Exchange) -> None:
    """A client that is cut right behind `sse-open`, again and again, loses nothing."""
    client = await connect("a", "b")
    last = client.cut()
    exchange.publish("a", "a:1")
    exchange.publish("b", "b:1")
    exchange.history.gate.clear()
    for _ in range(3):
        client = await connect("a", "b", cursor=last)
        assert Cursor.parse(client.messages[0].id) == Cursor.parse(last)
        last = client.cut()
    exchange.history.gate.set()

    client = await connect("a", "b", cursor=last)
    await eventually(lambda: sorted(client.texts) == ["a:1", "b:1"])


# -- slow clients ------------------------------------------------------------------------------------


async def test_several_entries_in_one_turn_leave_as_one_write(exchange: Exchange) -> None:
    """What is published in one turn of the loop, to whichever topics, is one write."""
    client = await connect("a", "b")
    await turns()
    before = len(client.writes)
    exchange.publish("a", "a:1", "a:2")
    exchange.publish("b", "b:1")
    exchange.publish("a", "a:3")
    await turns()

    assert client.texts == ["a:1", "a:2", "b:1", "a:3"]
    assert len(client.writes) == before + 1


async def test_a_slow_client_catches_up_from_the_history(exchange: Exchange) -> None:
    """What does not fit is dropped, and read again at the client's pace: in order, all of it."""
    client = await connect("a", "b", max_pending=1000)
    await make_busy(client)
    texts = [f"a:{number}" for number in range(200)]
    exchange.publish("b", "b:1")
    exchange.publish("a", *texts)
    exchange.publish("b", "b:2")
    await turns()
    assert exchange.history.reads == [], "nothing is read while the client does not"
    assert places(client) == {"a": False, "b": False}, "topics that were dropped with the queue go back too"

    client.read()
    await eventually(lambda: client.of("a") == texts and client.of("b") == ["b:1", "b:2"])
    await eventually(lambda: places(client) == {"a": True, "b": True})
    assert client.names.count("sse-reset") == 0
    exchange.publish("a", "a:live")
    await eventually(lambda: client.texts[-1] == "a:live")


async def test_who_has_nothing_else_to_write_writes_at_once(exchange: Exchange) -> None:
    """An idle stream writes where it is offered; one that waits queues the same, behind what it has."""
    idle, waiting = await connect("a"), await connect("a")
    await turns()
    waiting.stream.put_bytes(b":first\n")
    (entry,) = exchange.history.add("a", "a:1")
    for client in (idle, waiting):
        before = len(client.writes)
        client.stream.offer("a", Batch([entry]), at_once=True)  # type: ignore[attr-defined]
        assert len(client.writes) == before + (client is idle)
    await turns()
    waiting.stream.schedule()

    await eventually(lambda: waiting.texts == idle.texts == ["a:1"])
    assert waiting.writes[-1].startswith(b":first\n")


async def test_streams_come_and_go_while_a_fan_out_is_under_way(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ends has what was heard before; who comes begins behind it; all others get both events in order."""
    monkeypatch.setattr(fan_out, "_SLICE", 1)
    clients = [await connect("a", "b") for _ in range(5)]
    await turns()
    exchange.publish("a", "a:1")
    await asyncio.sleep(0)
    assert sum("a:1" in client.texts or not client.free for client in clients) == 1
    clients[3].stream.end("age")
    newcomer = await connect("a", "b")
    exchange.publish("b", "b:2")

    await eventually(lambda: all(len(client.texts) == 2 for client in clients if client is not clients[3]))
    await eventually(lambda: newcomer.texts == ["b:2"] and clients[3].done)
    for number, client in enumerate(clients):
        assert client.texts == (["a:1"] if number == 3 else ["a:1", "b:2"])
    assert clients[3].names[-1] == "sse-close"
    assert exchange.hub.snapshot().heals == 0


async def test_a_burst_that_does_not_fit_is_delivered(exchange: Exchange) -> None:
    """A burst in one turn that is larger than MAX_PENDING reaches a client that is not slow at all."""
    client = await connect("a", max_pending=1000)
    await turns()
    size = len(exchange.history.add("a", "a:measure")[0].frame)
    await exchange.hub.check()
    await eventually(lambda: client.texts)
    client.messages.clear()
    for count in (*range(1000 // size - 3, 1000 // size + 3), 100):
        exchange.publish("a", *("a:measure" for _ in range(count)))
        await eventually(lambda count=count: len(client.texts) == count)  # type: ignore[misc]
        client.messages.clear()


@pytest.mark.parametrize("topics", [("a",), tuple("abcdefghijklmnop")], ids=len)
async def test_pending_bytes_are_bounded(exchange: Exchange, topics: tuple[str, ...]) -> None:
    """No write is larger than MAX_PENDING, ids of many topics included; nor is what waits for one client."""
    client = await connect(*topics, max_pending=5000)
    await turns()
    client.stall()
    for number in range(300):
        exchange.publish(topics[number % len(topics)], f"{topics[number % len(topics)]}:{number}")
        exchange.hub.fan_out.settle()
        assert isinstance(client.stream, Stream)
        assert client.stream._pending <= 5000
    client.read()

    await eventually(lambda: len(client.texts) == 300)
    assert max(map(len, client.writes)) <= 5000


async def test_an_event_larger_than_max_pending_is_sent_alone(exchange: Exchange) -> None:
    """An event that never fits beside others still arrives."""
    client = await connect("a", max_pending=1000)
    large = "a:" + "x" * 5000
    exchange.publish("a", "a:1", large, "a:2")

    await eventually(lambda: client.texts == ["a:1", large, "a:2"])


async def test_an_entry_that_does_not_fit_is_not_read_again_and_again(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a client stalls in front of an entry that has no room, the history is left alone."""
    monkeypatch.setattr(hub, "READ_LIMIT", 1)
    client = await connect("a")
    last = client.cut()
    texts = ["a:1", "a:2", "a:" + "x" * 980]
    exchange.publish("a", *texts)
    exchange.history.gate.clear()
    client = await connect("a", cursor=last, max_pending=1000)
    await eventually(lambda: exchange.history.under_way)
    await make_busy(client)
    exchange.history.gate.set()
    await turns(100)
    assert len(exchange.history.reads) == len(texts)
    client.read()

    await eventually(lambda: client.texts == texts)


async def test_a_page_that_was_read_for_a_dropped_queue_is_dropped_too(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the queue spills while the history is read, what is read belongs to a place that is no more."""
    monkeypatch.setattr(hub, "READ_LIMIT", 1)
    await connect("b")
    last = (await connect("a")).cut()
    texts = ["a:1", "a:2", "a:3"]
    exchange.publish("a", *texts)
    exchange.history.gate.clear()
    client = await connect("a", "b", cursor=last, max_pending=1000)
    await eventually(lambda: exchange.history.under_way)
    await make_busy(client)
    exchange.history.gate.set()
    await turns(1)
    exchange.history.gate.clear()
    await eventually(lambda: len(exchange.history.reads) == 2)
    assert isinstance(client.stream, Stream)
    assert client.stream._pending, "a:1 is queued, and what is behind it is being read"
    exchange.publish("b", *(f"b:{number}" for number in range(20)))
    exchange.history.gate.set()
    await turns()
    client.read()

    await eventually(lambda: len(client.texts) == 23)
    assert client.of("a") == texts


async def test_topics_catch_up_in_turn(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic with a long replay does not keep the other topics of its stream waiting."""
    monkeypatch.setattr(hub, "READ_LIMIT", 2)
    client = await connect("a", "b")
    last = client.cut()
    for topic in ("a", "b"):
        exchange.publish(topic, *(f"{topic}:{number}" for number in range(6)))
    client = await connect("a", "b", cursor=last)

    await eventually(lambda: len(client.texts) == 12)
    assert [topic for topic, _ in exchange.history.reads] == ["a", "b"] * 3


async def test_a_client_that_stalls_holds_no_slot(exchange: Exchange) -> None:
    """Any number of clients that stall in the middle of a replay keep nobody else from one."""
    client = await connect("a")
    last = client.cut()
    exchange.publish("a", *(f"a:{number}" for number in range(100)))
    stalled = [Client(make("a", cursor=last, max_pending=500)).open() for _ in range(20)]
    for client in stalled:
        client.stall()
    await turns(100)
    assert exchange.hub._reads._value == hub._READS

    client = await connect("a", cursor=last)
    await eventually(lambda: len(client.texts) == 100)


async def test_reads_for_replays_are_bounded(exchange: Exchange) -> None:
    """However many clients come back at once, the history has a bounded number of reads under way."""
    client = await connect("a")
    last = client.cut()
    exchange.publish("a", "a:1")
    exchange.history.gate.clear()
    clients = [await connect("a", cursor=last) for _ in range(hub._READS + 5)]
    await turns(100)
    assert exchange.history.under_way == hub._READS
    exchange.history.gate.set()

    await eventually(lambda: all(client.texts == ["a:1"] for client in clients))


# -- ahead of the follower ---------------------------------------------------------------------------


async def test_a_stream_ahead_of_its_follower_waits_for_it(exchange: Exchange) -> None:
    """LIVE means equal: a client that knows more than its process catches up until the follower healed."""
    first = await connect("a")
    follower = exchange.hub.followers["a"]
    (entry,) = exchange.history.add("a", "a:1")  # announced to another process only, whence the client comes
    exchange.history.gate.clear()
    client = await connect("a", cursor=cursor_of(a=entry.position))
    await turns()
    exchange.history.gate.set()
    await eventually(lambda: follower.position == entry.position)
    await eventually(lambda: places(client)["a"])
    assert first.texts == ["a:1"]
    assert client.texts == []

    exchange.publish("a", "a:2")
    await eventually(lambda: client.texts == ["a:2"])


async def test_a_stream_ahead_of_its_follower_is_not_deaf(exchange: Exchange) -> None:
    """What is announced before the follower has healed reaches a stream that is ahead, once."""
    await connect("a")
    one, two = exchange.history.add("a", "a:1", "a:2")
    client = await connect("a", cursor=cursor_of(a=two.position))
    (three,) = exchange.history.add("a", "a:3")
    for entry in (one, two, three):
        exchange.hub.hear(entry)

    await eventually(lambda: places(client)["a"])
    assert client.texts == ["a:3"]


# -- the first state ---------------------------------------------------------------------------------


class State:
    """A project's first state: what it was asked for, and how it answers."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.name = "state"

    async def __call__(self, topics: Collection[str]) -> Iterable[Event]:
        """Return one event per topic."""
        self.asked.append(list(topics))
        answer = [Event(name=self.name, text=f"{topic}:state {len(self.asked)}") for topic in topics]
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return answer


async def test_the_first_state_comes_before_the_events(exchange: Exchange) -> None:
    """A fresh stream has `sse-open`, the state of its topics, then every event since that was asked for."""
    state = State()
    state.gate.clear()
    client = await connect("a", "b", first_state=state)
    await eventually(lambda: state.asked)
    exchange.publish("a", "a:1")
    exchange.publish("b", "b:1")
    await turns()
    assert client.texts == []
    state.gate.set()

    await eventually(lambda: len(client.texts) == 4)
    assert client.names[:3] == ["sse-open", "state", "state"]
    assert client.texts[:2] == ["a:state 1", "b:state 1"]
    assert sorted(client.texts[2:]) == ["a:1", "b:1"]
    exchange.publish("a", "a:2")
    await eventually(lambda: client.of("a") == ["a:state 1", "a:1", "a:2"])
    assert state.asked == [["a", "b"]]


async def test_a_resumed_topic_has_no_first_state(exchange: Exchange) -> None:
    """Only topics that start fresh are asked for: a client that comes back has its page already."""
    client = await connect("a")
    last = client.cut()
    exchange.publish("a", "a:1")
    state = State()
    client = await connect("a", "b", cursor=last, first_state=state)

    await eventually(lambda: all(places(client).values()))
    await eventually(lambda: len(client.texts) == 2)
    assert state.asked == [["b"]]
    assert sorted(client.texts) == ["a:1", "b:state 1"]


async def test_a_client_cut_before_its_state_asks_again(exchange: Exchange) -> None:
    """Until a topic's state has left, no id claims that topic; so a cut in between is a fresh start."""
    state = State()
    state.gate.clear()
    client = await connect("a", first_state=state)
    assert client.messages[0].id == "1"
    await eventually(lambda: state.asked)
    last = client.cut()
    state.gate.set()
    await turns()

    client = await connect("a", cursor=last, first_state=state)
    assert json.loads(client.messages[0].text)["fresh"] == ["a"]
    await eventually(lambda: client.texts == ["a:state 2"])
    exchange.publish("a", "a:1")
    await eventually(lambda: client.texts == ["a:state 2", "a:1"])
    last = client.cut()

    client = await connect("a", cursor=last, first_state=state)
    await eventually(lambda: places(client)["a"])
    assert len(state.asked) == 2, "with its state behind it, the topic is resumed"


async def test_other_topics_ids_claim_nothing_whose_state_is_owed(exchange: Exchange) -> None:
    """While one topic's state is awaited, another topic's events carry a cursor without the first."""
    known = await connect("b")
    last = known.cut()
    state = State()
    client = await connect("a", "b", cursor=last, first_state=state)
    await eventually(lambda: all(places(client).values()))
    state.gate.clear()
    exchange.history.forget("a")
    exchange.history.add("a", "a:lost")
    await exchange.hub.check()
    await eventually(lambda: len(state.asked) == 2)
    exchange.publish("b", "b:1")

    await eventually(lambda: client.of("b") == ["b:1"])
    assert position_of(client.messages[-1].id, "a") is None
    state.gate.set()
    await eventually(lambda: client.of("a") == ["a:state 1", "a:state 2"])
    exchange.publish("b", "b:2")
    await eventually(lambda: client.of("b") == ["b:1", "b:2"])
    assert position_of(client.messages[-1].id, "a") is not None


async def test_a_reset_topic_has_its_state_again(exchange: Exchange) -> None:
    """Behind a reset the topic's state is sent anew, before anything later of that topic."""
    exchange.publish("a", "a:1")
    state = State()
    client = await connect("a", cursor=cursor_of(a=Position(offset=1, tag=2)), first_state=state)
    await eventually(lambda: places(client)["a"])
    exchange.publish("a", "a:2")
    await eventually(lambda: "a:2" in client.texts)

    assert client.names == ["sse-open", "sse-reset", "state", "message"]
    assert client.texts == ["a:state 1", "a:2"]
    assert position_of(client.messages[1].id, "a") is None
    assert position_of(client.messages[-1].id, "a") is not None


async def test_a_spilled_state_is_asked_for_again(exchange: Exchange) -> None:
    """A state that was dropped with the queue of a slow client comes before the topic's later events."""
    known = await connect("b")
    last = known.cut()
    state = State()
    state.gate.clear()
    client = await connect("a", "b", cursor=last, first_state=state, max_pending=500)
    await eventually(lambda: state.asked)
    await make_busy(client)
    exchange.publish("a", "a:0")
    state.gate.set()
    await turns()
    exchange.publish("b", *(f"b:{number}" for number in range(50)))
    client.read()

    await eventually(lambda: len(client.of("b")) == 50)
    await eventually(lambda: all(places(client).values()))
    exchange.publish("a", "a:1")
    await eventually(lambda: client.of("a")[-1] == "a:1")
    events = [text for text in client.of("a") if "state" not in text]
    assert client.names.index("state") < [message.text for message in client.messages].index(events[0])
    assert events in (["a:0", "a:1"], ["a:1"])


@pytest.mark.parametrize("how", ["raises", "reserved"])
async def test_a_first_state_that_fails_ends_the_stream(
    exchange: Exchange, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its state a topic would be silently wrong: the client is told, and comes back to ask again."""
    state = State()
    if how == "raises":
        state.fault = RuntimeError("a bug")
    else:
        state.name = "sse-close"
    client = await connect("a", first_state=state)

    await eventually(lambda: client.done)
    assert client.names == ["sse-open", "sse-close"]
    assert json.loads(client.messages[-1].text) == {"reason": "error", "reconnect": True}
    assert Cursor.parse(client.parser.last_event_id).positions == {}
    assert "The first state of a stream failed" in caplog.text
    assert not exchange.hub.streams


@pytest.mark.parametrize("fails", [False, True])
async def test_a_state_that_comes_too_late_is_dropped(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    """Nothing follows `sse-close`, also where the stream ended while its first state was on its way."""
    known = await connect("b")
    state = State()
    state.gate.clear()
    client = await connect("a", "b", cursor=known.cut(), first_state=state)
    await eventually(lambda: state.asked)
    await make_busy(client)
    client.stream.end("age")
    if fails:
        state.fault = RuntimeError("the request is over")
    state.gate.set()
    await turns()
    client.read()

    await eventually(lambda: client.done)
    await turns()
    assert client.names == ["sse-open", "sse-close"]
    assert caplog.text == ""
