"""Whose access was revoked loses their streams, whatever state these are in."""

import json
import logging
from collections.abc import AsyncIterator
from time import monotonic

import pytest
from pytest_django import Settings

from django_sse import layers, revocations
from django_sse.conf import get_settings
from django_sse.positions import Entry
from django_sse.revocations import Revocation, digest_of
from django_sse.streams import Stream
from django_sse.topics import CONTROL_TOPIC
from django_sse.visitors import Visitor
from django_sse.wire import Event
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually, turns


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub, whose own tail check does not come in the test's time."""
    async with open_exchange(settings, CHECK=3600, HEARTBEAT=3600) as exchange:
        yield exchange


def visitor(user: str | None, *, began: float | None = None, session: str | None = None) -> Visitor | None:
    """Return who has a stream."""
    if user is None:
        return None
    return Visitor(user=user, began=monotonic() if began is None else began, session_key=session)


def make(user: str | None = "user.1", *topics: str, began: float | None = None) -> Client:
    """Return a client whose stream has not begun."""
    return Client(Stream(topics or ("a",), settings=get_settings(), visitor=visitor(user, began=began)))


async def connect(user: str | None = "user.1", *topics: str) -> Client:
    """Return a client whose stream has begun."""
    client = make(user, *topics).open()
    await eventually(lambda: "sse-open" in client.names)
    await turns()
    return client


def tell(exchange: Exchange, revocation: Revocation, *, ring: bool = True) -> Entry:
    """Revoke, as this process or, without a ring, as another whose doorbell is lost."""
    entry = exchange.history.append(CONTROL_TOPIC, revocation.event())
    assert entry is not None
    if ring:
        layers.ring(entry)
    return entry


def assert_revoked(client: Client, reason: str = "revoked") -> None:
    """See that a client was told that it may ask again, and when."""
    assert client.done
    assert client.names[-1] == "sse-close"
    assert json.loads(client.messages[-1].text) == {"reason": reason, "reconnect": True}
    assert client.parser.retry is not None
    assert 3 <= client.parser.retry <= 6


async def test_the_streams_of_the_user_end_and_no_others(exchange: Exchange) -> None:
    """All of theirs, at once; other users' and visitors' go on."""
    theirs = [await connect("user.1"), await connect("user.1", "b")]
    others = [await connect("user.10"), await connect(None)]
    tell(exchange, Revocation(user="user.1"))
    await eventually(lambda: all(client.done for client in theirs))
    for client in theirs:
        assert_revoked(client)
    exchange.publish("a", "1")
    await eventually(lambda: [client.texts for client in others] == [["1"], ["1"]])
    assert [client.texts for client in theirs] == [[], []]


async def test_another_process_tells_by_the_layer(exchange: Exchange) -> None:
    """The doorbell carries it like any event."""
    client = await connect()
    await exchange.announce(tell(exchange, Revocation(user="user.1"), ring=False))
    await eventually(lambda: client.done)
    assert_revoked(client)


async def test_a_lost_doorbell_is_found_by_the_tail_check(exchange: Exchange) -> None:
    """With every layer message lost access ends within the check period."""
    client = await connect()
    tell(exchange, Revocation(user="user.1"), ring=False)
    await turns()
    assert not client.done
    await exchange.hub.check()
    await eventually(lambda: client.done)
    assert_revoked(client)


async def test_what_waits_for_a_stalled_client_is_dropped(exchange: Exchange) -> None:
    """What was sent before, and not taken, is not theirs any more: when they read on, they read the end."""
    client = await connect()
    client.stall()
    exchange.publish("a", "taken")
    await turns()
    exchange.publish("a", "waiting")
    await turns()
    tell(exchange, Revocation(user="user.1"))
    await turns()
    assert not exchange.hub.streams
    client.read()
    await eventually(lambda: client.done)
    assert client.texts == ["taken"]
    assert_revoked(client)


async def test_a_stream_that_catches_up_ends(exchange: Exchange) -> None:
    """Nothing that the history still gives comes behind the revocation."""
    client = await connect()
    exchange.history.gate.clear()
    exchange.history.add("a", "1")
    exchange.hub.followers["a"].heal()
    client.stream.suspect("a")  # type: ignore[attr-defined]
    await eventually(lambda: exchange.history.under_way)
    tell(exchange, Revocation(user="user.1"))
    exchange.history.gate.set()
    await eventually(lambda: client.done)
    assert client.texts == []
    assert_revoked(client)


async def test_a_stream_that_attaches_meanwhile(exchange: Exchange) -> None:
    """Its request began before the revocation was heard, and may have read what is no longer so."""
    await connect()
    began = monotonic()
    tell(exchange, Revocation(user="user.1"))
    await turns()
    late, other = make(began=began).open(), make("user.2", began=began).open()
    await eventually(lambda: late.done and "sse-open" in other.names)
    assert late.names == ["sse-close"]
    assert_revoked(late)
    assert not other.done


async def test_a_stream_that_ends_in_that_moment(exchange: Exchange) -> None:
    """Heard in the turn in which a stream ends for another reason, the revocation ends it, once."""
    client = await connect()
    tell(exchange, Revocation(user="user.1"))
    client.stream.end("age")
    await eventually(lambda: client.done)
    assert client.names.count("sse-close") == 1
    assert_revoked(client)


async def test_a_stream_that_waits_for_its_positions(exchange: Exchange) -> None:
    """Revoked before it has begun, it does not begin."""
    await connect("user.2")
    exchange.history.gate.clear()
    client = make("user.1", "fresh").open()
    await turns()
    tell(exchange, Revocation(user="user.1"))
    exchange.history.gate.set()
    await eventually(lambda: client.done)
    assert client.names == ["sse-close"]


async def test_a_process_that_has_just_begun(exchange: Exchange) -> None:
    """Its first stream waits until the control topic is followed; what comes from then on ends it."""
    exchange.history.gate.clear()
    client = make().open()
    await turns()
    exchange.history.gate.set()
    tell(exchange, Revocation(user="user.1"), ring=False)
    await eventually(lambda: "sse-open" in client.names or client.done)
    await exchange.hub.check()
    await eventually(lambda: client.done)


async def test_who_was_asked_again_may_come_back(exchange: Exchange) -> None:
    """A request that begins behind the revocation is judged by the rules alone, and resumes."""
    client = await connect()
    exchange.publish("a", "1")
    await eventually(lambda: client.texts == ["1"])
    tell(exchange, Revocation(user="user.1"))
    await eventually(lambda: client.done)
    again = await connect()
    exchange.publish("a", "2")
    await eventually(lambda: again.texts == ["2"])


async def test_a_session_that_has_ended_stays_out(exchange: Exchange) -> None:
    """It is flushed behind the signal of the logout: a request between the two still finds it."""
    await connect()
    tell(exchange, Revocation(user="user.1", session=digest_of("secret")))
    await turns()
    theirs = Stream(["a"], settings=get_settings(), visitor=visitor("user.1", session="secret"))
    other = Stream(["a"], settings=get_settings(), visitor=visitor("user.1", session="another"))
    late, welcome = Client(theirs).open(), Client(other).open()
    await eventually(lambda: late.done and "sse-open" in welcome.names)
    assert_revoked(late)
    assert not welcome.done


async def test_where_revocations_were_lost_everybody_is_asked_again(exchange: Exchange) -> None:
    """A history that was emptied may have lost some: all streams end, and who was on the way comes again."""
    clients = [await connect("user.1"), await connect("user.2"), await connect(None)]
    began = monotonic()
    tell(exchange, Revocation(user="user.3"))
    exchange.history.forget(CONTROL_TOPIC)
    await exchange.hub.check()
    await eventually(lambda: all(client.done for client in clients))
    for client in clients:
        assert_revoked(client, "recheck")
    late = make("user.2", began=began).open()
    await eventually(lambda: late.done)
    assert_revoked(late)
    await connect("user.2")


async def test_what_is_no_longer_remembered_counts_against_who_comes(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory is bounded; a request that is older than it is asked again, rather than let in."""
    monkeypatch.setattr(revocations, "_REMEMBERED", 2)
    await connect("user.0")
    began = monotonic()
    for number in range(1, 5):
        tell(exchange, Revocation(user=f"user.{number}", session=digest_of(f"{number}")))
    await turns()
    heard = exchange.hub.revocations
    assert heard.covers(Visitor(user="user.1", began=began))
    assert heard.covers(Visitor(user="user.9", began=began))
    assert not heard.covers(Visitor(user="user.9", began=monotonic()))
    assert heard.covers(Visitor(user="user.9", began=monotonic(), session_key="4"))
    assert not heard.covers(Visitor(user="user.9", began=monotonic(), session_key="1"))
    assert len(heard._users) == len(heard._sessions) == 2


@pytest.mark.parametrize(
    "event",
    [
        Event(name="revoke", text="{"),
        Event(name="revoke", text="[]"),
        Event(name="revoke", text='{"user":5,"session":null}'),
        Event(name="revoke", text='{"user":"user.1","session":5}'),
        Event(name="another", text='{"user":"user.1","session":null}'),
    ],
    ids=lambda event: event.text,
)
async def test_what_is_malformed_ends_nothing(
    exchange: Exchange, event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    """It is skipped with a log that does not quote it; what follows is heard."""
    client = await connect()
    entry = exchange.history.append(CONTROL_TOPIC, event)
    assert entry is not None
    with caplog.at_level(logging.WARNING, "django_sse"):
        layers.ring(entry)
        await turns()
    assert [record.message for record in caplog.records] == ["Skipped an event of the control topic"]
    assert not client.done
    tell(exchange, Revocation(user="user.1"))
    await eventually(lambda: client.done)


async def test_a_forged_doorbell_revokes_nothing(exchange: Exchange) -> None:
    """A stranger in the layer does not know the last entry's tag: the history is asked, and knows nothing."""
    client = await connect()
    true = tell(exchange, Revocation(user="user.2"))
    forged = Revocation(user="user.1").event()
    await exchange.announce(true, offset=true.offset + 1, tag=1, previous=2, text=forged.text)
    await exchange.announce(true, offset=true.offset + 1, tag=1, previous=true.tag ^ 1, text=forged.text)
    await eventually(lambda: exchange.hub.counters.heals)
    await turns()
    assert not client.done


async def test_sessions_are_not_named_where_others_read(exchange: Exchange) -> None:
    """The history gets a digest, from which no session can be taken over."""
    entry = tell(exchange, Revocation(user="user.1", session=digest_of("secret")))
    assert "secret" not in entry.event.text
    assert "secret" not in repr(visitor("user.1", session="secret"))
    assert Revocation.of(entry.event) == Revocation(user="user.1", session=digest_of("secret"))


async def test_the_control_topic_is_nobodys(exchange: Exchange) -> None:
    """It is in no cursor, and among no stream's topics."""
    client = await connect("user.1", "a")
    assert json.loads(client.named("sse-open")[0])["topics"] == ["a"]
    assert client.messages[-1].id.count("~") == 1
    assert exchange.hub.snapshot().followers == 1
