"""Every stream shows life, ends politely where it must, and leaves nothing behind when its client goes."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from pytest_django import Settings

from django_sse.conf import get_settings
from django_sse.exceptions import HistoryError
from django_sse.followers import Follower
from django_sse.streams import IteratorStream, Stream
from django_sse.visitors import Visitor
from django_sse.wire import HEARTBEAT
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually, turns


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub, whose own tickers do not come in the test's time."""
    async with open_exchange(settings, CHECK=3600, HEARTBEAT=3600) as exchange:
        yield exchange


def make(*topics: str, seconds: float | None = None, user: str | None = None) -> Stream:
    """Return a stream."""
    visitor = None if user is None else Visitor(user=user, began=monotonic())
    return Stream(topics or ("a",), settings=get_settings(), seconds=seconds, visitor=visitor)


async def connect(*topics: str, seconds: float | None = None) -> Client:
    """Return a client whose stream has begun."""
    client = Client(make(*topics, seconds=seconds)).open()
    await eventually(lambda: "sse-open" in client.names)
    await turns()
    return client


def is_gone(exchange: Exchange, client: Client) -> bool:
    """Tell whether nothing here knows a client's stream any more."""
    stream: Any = client.stream
    return stream not in exchange.hub.streams and all(
        stream not in follower.streams for follower in exchange.hub.followers.values()
    )


# -- heartbeats --------------------------------------------------------------------------------------


async def test_a_heartbeat_breaks_silence_alone(exchange: Exchange) -> None:
    """A stream that wrote since the last beat is quiet; one that did not writes a comment, no event."""
    client = await connect()
    writes, messages = len(client.writes), len(client.messages)

    async def beat() -> list[bytes]:
        client.stream.beat(exchange.hub.loop.time())
        await turns()
        return client.writes[writes:]

    assert await beat() == []
    assert await beat() == [HEARTBEAT]
    exchange.publish("a", "1")
    await turns()
    assert len(await beat()) == 2, "the event, and no heartbeat"
    assert (await beat())[2:] == [HEARTBEAT]
    assert len(client.messages) == messages + 1


async def test_heartbeats_do_not_pile_up(exchange: Exchange) -> None:
    """A client that reads nothing for hours has one heartbeat waiting, not hundreds."""
    client = await connect()
    client.stall()
    writes = len(client.writes)
    for _ in range(100):
        client.stream.beat(exchange.hub.loop.time())
        await turns(2)
    client.read()
    await turns()

    assert client.writes[writes:] == [HEARTBEAT, HEARTBEAT], "one was on its way, one waited"


async def test_silence_is_never_longer_than_heartbeat(settings: Settings) -> None:
    """The ticker keeps every silent stream alive, one that still waits for the history too."""
    async with open_exchange(settings, HEARTBEAT=0.02) as exchange:
        live = await connect()
        exchange.history.fault = HistoryError("down")
        waiting = Client(make("new")).open()

        await eventually(lambda: b"".join(live.writes).count(HEARTBEAT) > 2)
        await eventually(lambda: b"".join(waiting.writes).count(HEARTBEAT) > 2)
        assert live.names == ["sse-open"]
        assert waiting.names == []


# -- the end -----------------------------------------------------------------------------------------


async def test_a_stream_ends_at_its_age(exchange: Exchange) -> None:
    """At MAX_AGE a stream says why behind everything that was queued, asks to come back, and finishes."""
    client = await connect()
    exchange.publish("a", "1")
    client.stream.beat(exchange.hub.loop.time() + get_settings().MAX_AGE)
    exchange.publish("a", "2")

    await eventually(lambda: client.done)
    await turns()
    assert client.names == ["sse-open", "message", "sse-close"]
    assert json.loads(client.messages[-1].text) == {"reason": "age", "reconnect": True}
    assert client.messages[-1].id == client.messages[-2].id, "coming back loses nothing"
    assert is_gone(exchange, client)


async def test_ages_are_spread(exchange: Exchange) -> None:
    """Streams that came together do not leave together."""
    ages = [make().seconds for _ in range(50)]

    assert all(0.8 * 3600 <= age <= 3600 for age in ages)
    assert len(set(ages)) > 25


@pytest.mark.parametrize(
    ("seconds", "lasts", "reason"), [(0.0, -1, "session"), (10.0, 9, "session"), (1e9, 2879, "age")]
)
async def test_the_shorter_life_counts(exchange: Exchange, seconds: float, lasts: float, reason: str) -> None:
    """A session that ends before MAX_AGE ends the stream, and is the reason."""
    client = await connect(seconds=seconds)
    client.stream.beat(exchange.hub.loop.time() + lasts)
    await turns()
    assert not client.finished

    client.stream.beat(exchange.hub.loop.time() + min(seconds, 3600))
    await eventually(lambda: client.done)
    assert json.loads(client.messages[-1].text)["reason"] == reason


async def test_age_comes_by_itself(settings: Settings) -> None:
    """The ticker looks often enough for any MAX_AGE."""
    async with open_exchange(settings, MAX_AGE=0.05):
        client = await connect()
        await eventually(lambda: client.done)


async def test_ending_twice_ends_once(exchange: Exchange) -> None:
    """The first reason stands; an end behind it, or behind close(), says nothing more."""
    client = await connect()
    client.stream.end("one", reconnect=False)
    client.stream.end("two")
    await eventually(lambda: client.done)
    client.stream.end("three")
    client.stream.flush()
    client.stream.close()
    client.stream.end("four")
    await turns()

    assert client.named("sse-close") == ['{"reason":"one","reconnect":false}']


async def test_a_stalled_client_is_told_when_it_reads(exchange: Exchange) -> None:
    """A stream that ends while its client stalls is forgotten at once, and finishes when it is read."""
    client = await connect()
    client.stall()
    exchange.publish("a", "1")
    await turns()
    exchange.publish("a", "2")
    client.stream.end("age")
    await turns()
    assert is_gone(exchange, client)
    assert not client.finished
    client.read()

    await eventually(lambda: client.done)
    await turns()
    assert client.names == ["sse-open", "message", "message", "sse-close"]


async def test_a_stream_that_ends_before_it_began(exchange: Exchange) -> None:
    """An end while the history is down is said at once, and nothing comes when the history is back."""
    exchange.history.fault = HistoryError("down")
    client = Client(make()).open()
    await turns()
    client.stream.end("age")
    await eventually(lambda: client.done)
    exchange.history.fault = None

    await eventually(exchange.hub.followers["a"].ready.is_set)
    await turns()
    assert client.names == ["sse-close"]
    assert is_gone(exchange, client)


# -- a client that is gone ---------------------------------------------------------------------------


async def test_close_leaves_nothing_behind(exchange: Exchange) -> None:
    """A closed stream is nobody's any more and writes nothing; closing again is harmless."""
    client = await connect("a", "b")
    other = await connect("a")
    client.stream.close()
    client.stream.close()
    assert is_gone(exchange, client)

    writes = len(client.writes)
    exchange.publish("a", "1")
    client.stream.flush()
    client.stream.beat(exchange.hub.loop.time())
    await turns()
    assert len(client.writes) == writes
    assert other.texts == ["1"]


async def test_close_with_bytes_on_their_way(exchange: Exchange) -> None:
    """What was queued when the client went is not written."""
    client = await connect()
    writes = len(client.writes)
    exchange.publish("a", "1")
    client.stream.close()
    await turns()

    assert len(client.writes) == writes


async def test_close_from_another_thread(exchange: Exchange) -> None:
    """Django closes responses in threads: the stream leaves its hub in the hub's own loop."""
    client = await connect()
    thread = Thread(target=client.stream.close)
    thread.start()
    thread.join()
    exchange.publish("a", "1")

    await eventually(lambda: is_gone(exchange, client))
    await turns()
    assert client.texts == []


def test_close_after_the_loop(settings: Settings) -> None:
    """A stream outlives its event loop harmlessly: closing it then does nothing."""

    async def visit() -> Client:
        async with open_exchange(settings):
            return await connect()

    client = asyncio.run(visit())

    client.stream.close()


async def test_close_before_the_start(exchange: Exchange) -> None:
    """A stream that was closed before it was opened ends its outlet, and never has a hub."""
    client = Client(make())
    client.stream.close()
    client.open()
    await turns()

    assert client.finished
    assert client.writes == []
    assert not exchange.hub.streams
    with pytest.raises(RuntimeError, match="no hub before open"):
        _ = client.stream.hub


async def test_close_while_its_followers_start(exchange: Exchange) -> None:
    """A client that goes while the history is slow is not followed for when that answers."""
    exchange.history.gate.clear()
    client = Client(make("a", "b")).open()
    await turns()
    client.stream.close()
    exchange.history.gate.set()
    await eventually(exchange.hub.followers["b"].ready.is_set)
    await turns()

    assert is_gone(exchange, client)
    assert client.names == []
    assert sorted(exchange.hub._idle) == ["a", "b"]


async def test_close_from_another_thread_while_its_followers_start(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed from a thread in the very moment when its positions come, a stream does not begin."""
    follow = exchange.hub.follow

    async def follow_then_close(stream: Any, topics: Collection[str]) -> list[Follower]:
        found = await follow(stream, topics)
        thread = Thread(target=stream.close)
        thread.start()
        thread.join()
        return found

    monkeypatch.setattr(exchange.hub, "follow", follow_then_close)
    client = Client(make()).open()
    await eventually(lambda: "a" in exchange.hub._idle)
    await turns()

    assert client.names == []
    assert is_gone(exchange, client)


async def test_a_stream_that_was_ended_before_it_was_opened(exchange: Exchange) -> None:
    """An end that comes before the response is sent is said at once, and is all."""
    client = Client(make())
    client.stream.end("drain")
    client.open()
    await eventually(lambda: client.done)
    await turns()
    exchange.publish("a", "1")
    await turns()

    assert client.names == ["sse-close"]
    assert not exchange.hub.followers["a"].streams


async def test_close_while_it_catches_up(exchange: Exchange) -> None:
    """A client that goes in the middle of a replay is forgotten, and its page with it."""
    stream = make()
    client = Client(stream).open()
    await eventually(lambda: client.names)
    exchange.history.add("a", "1", "2")
    exchange.history.gate.clear()
    stream.suspect("a")
    await eventually(lambda: exchange.history.under_way)
    stream.close()
    exchange.history.gate.set()
    await turns()

    assert client.texts == []
    assert is_gone(exchange, client)


# -- limits ------------------------------------------------------------------------------------------


async def turned_away(*, user: str | None = None) -> bool:
    """Ask for one stream more, with its answer read to the end; tell whether it was turned away."""
    client = Client(make(user=user)).open()
    await eventually(lambda: client.done or "sse-open" in client.names)
    if not client.done:
        client.stream.close()
        return False
    (message,) = client.messages
    assert message.name == "sse-close"
    assert json.loads(message.text) == {"reason": "limit", "reconnect": True}
    assert client.parser.retry is not None
    assert 45 <= client.parser.retry <= 75
    return True


async def test_one_stream_more_than_a_process_may_hold_is_turned_away(settings: Settings) -> None:
    """It ends at once, and politely, and is told to come back later; the others go on."""
    async with open_exchange(settings, MAX_STREAMS=2) as exchange:
        first, second = await connect(), await connect()
        assert await turned_away()
        assert len(exchange.hub.streams) == 2
        assert exchange.hub.snapshot().refusals == 1
        exchange.publish("a", "1")
        await eventually(lambda: first.texts == second.texts == ["1"])
        second.stream.close()
        assert not await turned_away()
        assert exchange.hub.snapshot().refusals == 1


async def test_one_stream_more_than_a_user_may_have_is_turned_away(settings: Settings) -> None:
    """Each user has a share of their own, and visitors without an account have none to use up."""
    async with open_exchange(settings, MAX_STREAMS_PER_USER=1) as exchange:
        client = Client(make(user="user.1")).open()
        await eventually(lambda: "sse-open" in client.names)
        assert await turned_away(user="user.1")
        assert not await turned_away(user="user.2")
        assert [await turned_away() for _ in range(3)] == [False] * 3
        client.stream.close()
        client.stream.close()
        assert not await turned_away(user="user.1")
        assert not exchange.hub.streams.users


async def test_nobody_waits_longer_for_less(settings: Settings) -> None:
    """Where RETRY is long already, who is turned away comes back no sooner."""
    async with open_exchange(settings, MAX_STREAMS=1, RETRY=600):
        await connect()
        client = Client(make()).open()
        await eventually(lambda: client.done)
        assert client.parser.retry is not None
        assert client.parser.retry >= 450


async def test_without_limits_everybody_comes_in(settings: Settings) -> None:
    """None sets no limit."""
    async with open_exchange(settings, MAX_STREAMS=None, MAX_STREAMS_PER_USER=None) as exchange:
        clients = [Client(make(user="user.1")).open() for _ in range(40)]
        await eventually(lambda: all("sse-open" in client.names for client in clients))
        assert exchange.hub.streams.users == {"user.1": 40}


async def test_an_iterator_that_is_turned_away_is_not_begun(settings: Settings) -> None:
    """Its work waits for the client to come back; its end is none that a client may take for done."""
    begun = []

    async def events() -> AsyncIterator[str]:
        begun.append(True)
        yield "1"

    async with open_exchange(settings, MAX_STREAMS=1):
        await connect()
        client = Client(IteratorStream(events())).open()
        await eventually(lambda: client.done)

    assert begun == []
    assert client.names == ["sse-close"]
    assert client.parser.last_event_id == ""


# -- faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stalled", [False, True])
async def test_a_stream_that_cannot_compose_ends(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, *, stalled: bool
) -> None:
    """What was queued is lost with the fault: the stream is closed, so that the client comes back for it."""
    client = await connect()
    if stalled:
        client.stall()
        exchange.publish("a", "on its way")
        await turns()
    monkeypatch.setattr(type(client.stream), "compose" if stalled else "_frames", fail)
    exchange.publish("a", "1")
    client.read()

    await eventually(lambda: client.done)
    assert is_gone(exchange, client)
    assert "A stream failed" in caplog.text
    assert "1" not in client.texts


def fail(*_: object) -> bytes:
    """Have a bug."""
    raise RuntimeError


async def test_its_life_is_that_of_its_settings(exchange: Exchange) -> None:
    """A stream's life is bounded by the settings that it is given."""
    stream = Stream(["a"], settings=replace(get_settings(), MAX_AGE=10.0))

    assert 8 <= stream.seconds <= 10
