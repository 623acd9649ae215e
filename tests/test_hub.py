"""A hub brings every entry to its followers, whatever the layer does, and ends what it has begun."""

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis.exceptions
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from channels.layers import InMemoryChannelLayer
from pytest_django import Settings

from django_sse import asend_event, fan_out, followers, groups, hub, layers
from django_sse.counters import Snapshot, published
from django_sse.exceptions import HistoryError
from django_sse.groups import Groups
from django_sse.hub import Hub
from django_sse.layers import encode_message
from django_sse.positions import Batch
from django_sse.topics import CONTROL_TOPIC, group_name
from tests.exchange import Exchange, open_exchange
from tests.waiting import eventually, turns


class Watcher:
    """Follows topics, and notes what it is offered; a stream without a connection."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.suspected = 0
        self.flushed = 0
        self.beats: list[float] = []
        self.fault: Exception | None = None
        self.visitor: Any = None
        self.user: str | None = None
        self.is_gone = False

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Note entries."""
        self.texts += [entry.event.text for entry in batch.entries]

    def suspect(self, topic: str) -> None:
        """Note that the history has something else."""
        self.suspected += 1

    def healed(self) -> None:
        """Care about nothing."""

    def flush(self) -> None:
        """Note it."""
        self.flushed += 1
        if self.fault is not None:
            raise self.fault

    def beat(self, now: float) -> None:
        """Note the time."""
        self.beats.append(now)
        if self.fault is not None:
            raise self.fault

    def end(self, reason: str, *, retry: float | None = None, drop: bool = False) -> None:
        """Be gone."""
        self.is_gone = True

    def abort(self) -> None:
        """Be gone."""
        self.is_gone = True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a fiftieth of the usual time before a healing."""
    monkeypatch.setattr(followers, "GRACE", 0.001)
    monkeypatch.setattr(groups, "GRACE", 0.001)
    monkeypatch.setattr(hub, "GRACE", 0.001)


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub, whose own tail check does not come in the test's time."""
    async with open_exchange(settings, CHECK=3600) as exchange:
        yield exchange


def groups_of(hub: Hub) -> Groups:
    """Return the groups of a hub, which has a layer."""
    assert hub.groups is not None
    return hub.groups


async def follow(exchange: Exchange, *topics: str) -> Watcher:
    """Return a watcher that follows topics, with a hub that hears its layer."""
    watcher = Watcher()
    exchange.hub.add(watcher)
    await eventually(lambda: groups_of(exchange.hub).channel)
    await exchange.hub.follow(watcher, topics)
    return watcher


def members(exchange: Exchange, topic: str) -> list[str]:
    """Return the channels in a topic's group."""
    return list(exchange.layer.groups.get(group_name("sse", topic), ()))


def task_names(hub: Hub) -> list[str]:
    """Return what a hub's tasks run."""
    return sorted(getattr(task.get_coro(), "__qualname__", "") for task in hub._tasks)


# -- one per loop ------------------------------------------------------------------------------------


async def test_a_loop_has_one_hub(exchange: Exchange) -> None:
    """Whoever asks in one event loop gets the same hub, which is rung in its process."""
    assert Hub.current() is exchange.hub
    assert layers.listener_of(asyncio.get_running_loop()) is exchange.hub


async def test_another_history_makes_another_hub(exchange: Exchange, settings: Settings) -> None:
    """After the settings chose another history, no new stream is served from the old one."""
    settings.DJANGO_SSE = {}

    other = Hub.current()
    assert other is not exchange.hub
    assert other.history is not exchange.history
    await other.close()


async def test_nothing_runs_before_the_first_stream(exchange: Exchange) -> None:
    """A hub without streams has no tasks; one that serves streams has three, however many there are."""
    assert task_names(exchange.hub) == []

    await follow(exchange, "news")
    await follow(exchange, "news")
    await turns()
    assert task_names(exchange.hub) == ["Groups.receive", "Hub._beating", "Hub._checking", "_rechecking"]


async def test_without_a_layer_the_local_bell_is_enough(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project without CHANNEL_LAYERS has live streams in one process."""
    settings.CHANNEL_LAYERS = {}
    alone, watcher = Hub.current(), Watcher()
    assert alone.bell is None
    alone.add(watcher)
    await alone.follow(watcher, ["news"])
    await asend_event("news", "message", text="1")
    await turns()

    assert watcher.texts == ["1"]
    assert task_names(alone) == ["Hub._beating", "Hub._checking", "_rechecking"]
    monkeypatch.setattr(hub, "LINGER", 0.0)
    alone.unfollow(watcher, ["news"])
    await alone.check()
    await eventually(lambda: not alone.followers)
    await alone.close()


# -- the doorbell ------------------------------------------------------------------------------------


async def test_an_entry_of_this_process_arrives_at_once(exchange: Exchange) -> None:
    """What is published in the loop of the hub is known before the publisher goes on."""
    watcher = await follow(exchange, "news")

    *_, last = exchange.publish("news", "1", "2")
    assert exchange.hub.followers["news"].position == last.position
    exchange.hub.fan_out.settle()
    assert watcher.texts == ["1", "2"]
    assert exchange.history.reads == []


async def test_entries_of_one_turn_are_offered_together(exchange: Exchange) -> None:
    """They are one batch, in the next turn; another topic's entries between them keep their place."""
    topics: list[tuple[str, int]] = []

    class Noting(Watcher):
        def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
            super().offer(topic, batch, at_once=at_once)
            topics.append((topic, batch.count))

    watcher = Noting()
    await exchange.hub.follow(watcher, ["news", "prices"])

    exchange.publish("news", "1", "2")
    assert watcher.texts == []
    await turns(1)
    assert watcher.texts == ["1", "2"]
    exchange.publish("news", "3", "4", "5")
    exchange.publish("prices", "6", "7")
    exchange.publish("news", "8")
    await turns(1)

    assert topics == [("news", 2), ("news", 3), ("prices", 2), ("news", 1)]
    assert watcher.texts == ["1", "2", "3", "4", "5", "6", "7", "8"]


async def test_a_large_batch_is_offered_before_the_turn_ends(exchange: Exchange) -> None:
    """What waits for the end of the turn is bounded."""
    watcher = await follow(exchange, "news")

    for _ in range(3):
        exchange.publish("news", "x" * 30_000)
    assert len(watcher.texts) == 2
    await turns(1)
    assert len(watcher.texts) == 3


async def test_an_entry_of_another_process_arrives_by_the_layer(exchange: Exchange) -> None:
    """What another process appends and announces is offered, and the history is not asked."""
    watcher = await follow(exchange, "news")
    for entry in exchange.history.add("news", "1", "2"):
        await exchange.announce(entry)

    await eventually(lambda: watcher.texts == ["1", "2"])
    assert exchange.history.reads == []


async def test_two_processes_hear_each_other(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hubs of different origins over one history and one layer: the one publishes, both have it."""
    here = await follow(exchange, "news")
    other = Hub(history=exchange.history, layer=exchange.layer)
    there = Watcher()
    other.add(there)
    await eventually(lambda: groups_of(other).channel)
    await other.follow(there, ["news"])

    decode = layers.decode_message
    monkeypatch.setattr(layers, "decode_message", lambda message: decode({**message, "origin": "elsewhere"}))
    entries = exchange.publish("news", "1", "2", "3")
    await turns(1)
    assert here.texts == ["1", "2", "3"]

    await eventually(lambda: there.texts == ["1", "2", "3"])
    assert other.followers["news"].position == entries[-1].position
    assert exchange.history.reads == []
    await other.close()


async def test_its_own_echo_is_ignored(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    """A message that this process sent changes nothing where it comes back, and is no cause for a log."""
    watcher = await follow(exchange, "news", "prices")
    exchange.publish("news", "1")
    (entry,) = exchange.history.add("news", "of this process, but lost on its way to the hub")
    await exchange.layer.group_send(group_name("sse", "news"), encode_message(entry))
    (behind,) = exchange.history.add("prices", "2")
    await exchange.announce(behind)

    await eventually(lambda: watcher.texts == ["1", "2"])
    assert exchange.history.reads == []
    assert caplog.text == ""


async def test_a_large_event_travels_as_its_position(exchange: Exchange) -> None:
    """An event that a layer should not carry is announced without its text, and read from the history."""
    watcher = await follow(exchange, "news")
    large = "x" * (layers.MAX_CARRIED + 1)
    (entry,) = exchange.history.add("news", large)
    assert "text" not in encode_message(entry)
    await exchange.announce(entry)

    await eventually(lambda: watcher.texts == [large])
    assert len(exchange.history.reads) == 1


async def test_overtaking_and_doubled_announcements(exchange: Exchange) -> None:
    """A layer that reorders and doubles changes nothing in what is offered."""
    watcher = await follow(exchange, "news")
    one, two, three = exchange.history.add("news", "1", "2", "3")
    for entry in (three, one, one, three, two, two):
        await exchange.announce(entry)

    await eventually(lambda: watcher.texts == ["1", "2", "3"])


async def test_a_lost_announcement_is_found_by_the_tail_check(exchange: Exchange) -> None:
    """An entry that nobody announced is found by the next check, which asks for all topics at once."""
    news = await follow(exchange, "news")
    prices = await follow(exchange, "prices")
    exchange.history.add("news", "1")
    exchange.history.add("prices", "2")
    exchange.history.tails.clear()
    await turns()
    assert news.texts == prices.texts == []

    await exchange.hub.check()
    await eventually(lambda: (news.texts, prices.texts) == (["1"], ["2"]))
    assert exchange.history.tails == [(CONTROL_TOPIC, "news", "prices")]


async def test_the_tail_check_comes_by_itself(settings: Settings) -> None:
    """With the layer dead, an entry is on its streams within the check period."""
    async with open_exchange(settings, CHECK=0.01) as exchange:
        watcher = await follow(exchange, "news")
        exchange.history.add("news", "1")

        await eventually(lambda: watcher.texts == ["1"])


@pytest.mark.parametrize("fault", [HistoryError("down"), RuntimeError("a bug")])
async def test_the_tail_check_outlives_a_fault(
    settings: Settings, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the history raises, the tail check says so, and comes again."""
    async with open_exchange(settings, CHECK=0.01) as exchange:
        watcher = await follow(exchange, "news")
        exchange.history.fault = fault
        await eventually(lambda: "The tail check" in caplog.text)
        exchange.history.add("news", "1")
        exchange.history.fault = None

        await eventually(lambda: watcher.texts == ["1"])


FORGERIES: list[dict[str, Any]] = [
    {"type": "chat.message"},
    {"type": None},
    {"topic": None},
    {"topic": "two words"},
    {"topic": "sse-other"},
    {"offset": "1"},
    {"offset": -1},
    {"offset": True},
    {"offset": 2**53},
    {"tag": 2**40},
    {"tag": 1.5},
    {"previous": None},
    {"time": "yesterday"},
    {"time": None},
    {"time": 10**400},
    {"name": "sse\nopen"},
    {"name": ""},
    {"name": 5},
    {"text": b"bytes"},
    {"text": "\0"},
    {"text": "\ud800"},
    {"text": None},
]


@pytest.mark.parametrize("forgery", FORGERIES, ids=str)
async def test_a_malformed_message_is_skipped(
    exchange: Exchange, forgery: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A message that no hub has sent is skipped with a log; the channel and the next message live on."""
    watcher = await follow(exchange, "news")
    channel = groups_of(exchange.hub).channel
    (entry,) = exchange.history.add("news", "1")
    with caplog.at_level(logging.WARNING, "django_sse.hub"):
        await exchange.announce(entry, **forgery)
        await exchange.announce(entry)
        await eventually(lambda: watcher.texts == ["1"])

    assert [record.message.split(":")[0] for record in caplog.records] == ["Skipped"]
    assert groups_of(exchange.hub).channel == channel
    assert exchange.history.reads == []


@pytest.mark.parametrize("key", ["origin", "topic", "offset", "tag", "previous", "time", "name", "text"])
async def test_a_message_without_a_key_does_no_harm(exchange: Exchange, key: str) -> None:
    """A message that lacks something is skipped, or taken for as much as it says; the next one arrives."""
    watcher = await follow(exchange, "news")
    (entry,) = exchange.history.add("news", "1")
    message = encode_message(entry) | {"origin": "elsewhere"}
    del message[key]
    await exchange.layer.group_send(group_name("sse", "news"), message)
    await exchange.announce(entry)

    await eventually(lambda: watcher.texts == ["1"])


async def test_a_forged_entry_is_not_offered(exchange: Exchange) -> None:
    """A well-formed entry that does not follow is never offered; the history is asked instead."""
    watcher = await follow(exchange, "news")
    one, two = exchange.history.add("news", "1", "2")
    await exchange.announce(one, tag=5, text="forged", previous=two.tag)
    await exchange.announce(two)

    await eventually(lambda: watcher.texts == ["1", "2"])


async def test_a_message_for_a_topic_that_nobody_follows(exchange: Exchange) -> None:
    """A late message of a group that was left is ignored, with its event or without."""
    await follow(exchange, "news")
    for text in ("small", "x" * (layers.MAX_CARRIED + 1)):
        (entry,) = exchange.history.add("other", text)
        exchange.hub.hear_message(encode_message(entry) | {"origin": "elsewhere"})

    assert list(exchange.hub.followers) == ["news"]


# -- a layer that fails ------------------------------------------------------------------------------


class ShakyLayer(InMemoryChannelLayer):
    """A layer whose connection can be lost, and that may refuse groups."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.broken: list[Exception] = []
        self.refuses = False
        self.waiting: asyncio.Task[Any] | None = None

    async def receive(self, channel: str) -> dict[str, Any]:
        """Raise what broke, or receive."""
        if self.broken:
            raise self.broken.pop()
        self.waiting = asyncio.create_task(super().receive(channel))
        try:
            return dict(await self.waiting)
        except asyncio.CancelledError:
            if self.broken:
                raise self.broken.pop() from None
            raise

    def break_down(self, *faults: Exception) -> None:
        """Lose the connection, the groups with it."""
        self.groups.clear()
        self.broken = list(faults)
        assert self.waiting is not None
        self.waiting.cancel()

    async def group_add(self, group: str, channel: str) -> None:
        """Join, unless it refuses."""
        if self.refuses:
            raise ConnectionError
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Leave, unless it refuses."""
        if self.refuses:
            raise ConnectionError
        await super().group_discard(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send, unless it refuses."""
        if self.refuses:
            raise ConnectionError
        await super().group_send(group, message)


@pytest.fixture
async def shaky(exchange: Exchange) -> AsyncIterator[ShakyLayer]:
    """Give the exchange's process another hub, over a layer that breaks."""
    layer = ShakyLayer()
    other = Hub(history=exchange.history, layer=layer)
    layers.register(other)
    object.__setattr__(exchange, "hub", other)
    object.__setattr__(exchange, "layer", layer)
    yield layer
    await other.close()


async def test_a_broken_receive_begins_anew(
    exchange: Exchange, shaky: ShakyLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """After receive() has raised, all groups are joined again, and what was missed is read."""
    news = await follow(exchange, "news")
    prices = await follow(exchange, "prices")
    shaky.break_down(ConnectionError("gone"), OSError("still gone"))
    exchange.history.add("news", "missed")

    await eventually(lambda: news.texts == ["missed"])
    await eventually(lambda: members(exchange, "prices"))
    assert members(exchange, "news") == members(exchange, "prices") == [groups_of(exchange.hub).channel]
    assert caplog.text.count("The channel layer failed; trying again") == 2

    for topic in ("news", "prices"):
        (entry,) = exchange.history.add(topic, "heard")
        await exchange.announce(entry)
    await eventually(lambda: (news.texts, prices.texts) == (["missed", "heard"], ["heard"]))


async def test_a_receive_that_times_out_is_tolerated(
    exchange: Exchange, shaky: ShakyLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """A layer that gives up waiting now and then is asked again: no log, no new joins, nothing lost."""
    watcher = await follow(exchange, "news")
    groups = {group: dict(channels) for group, channels in shaky.groups.items()}
    # The second is redis-py's, which is none of Python's.
    shaky.break_down(TimeoutError("nothing came"), redis.exceptions.TimeoutError("nothing came"))
    await eventually(lambda: not shaky.broken)
    assert exchange.history.reads == []
    assert caplog.text == ""

    shaky.groups = groups
    (entry,) = exchange.history.add("news", "1")
    await exchange.announce(entry)
    await eventually(lambda: watcher.texts == ["1"])
    assert {group: dict(channels) for group, channels in shaky.groups.items()} == groups


async def test_a_group_that_could_not_be_joined_is_joined_by_the_check(
    exchange: Exchange, shaky: ShakyLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the layer refuses a group, the stream starts nonetheless, and the next check joins it."""
    shaky.refuses = True
    watcher = await follow(exchange, "news")
    assert members(exchange, "news") == []
    assert "A group could not be joined or left" in caplog.text
    exchange.publish("news", "1")
    await turns(1)
    assert watcher.texts == ["1"]

    shaky.refuses = False
    await exchange.hub.check()
    await eventually(lambda: members(exchange, "news") == [groups_of(exchange.hub).channel])


async def test_a_group_that_could_not_be_joined_again_is_joined_by_the_check(
    exchange: Exchange, shaky: ShakyLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """A join that failed is not covered by the one before, which was good for an hour."""
    await follow(exchange, "news")
    shaky.refuses = True
    shaky.break_down(ConnectionError("gone"))
    await eventually(lambda: "A group could not be joined or left" in caplog.text)
    assert members(exchange, "news") == []

    shaky.refuses = False
    await exchange.hub.check()
    await eventually(lambda: members(exchange, "news") == [groups_of(exchange.hub).channel])


class Hang:
    """A method of a layer that never answers."""

    def __init__(self) -> None:
        self.called = 0

    async def __call__(self, *_: object) -> None:
        """Wait for good."""
        self.called += 1
        await asyncio.Event().wait()


async def test_a_layer_that_hangs_stops_nothing(
    exchange: Exchange, shaky: ShakyLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Streams start, events arrive, checks come and topics are left with a layer that does not answer."""
    monkeypatch.setattr(groups, "_TIMEOUT", 0.01)
    monkeypatch.setattr(layers, "_TIMEOUT", 0.01)
    monkeypatch.setattr(hub, "LINGER", 0.0)
    for method in ("group_add", "group_discard", "group_send"):
        monkeypatch.setattr(shaky, method, Hang())
    watcher = await follow(exchange, "news")
    exchange.publish("news", "1", "2")
    await eventually(lambda: caplog.text.count("did not take a doorbell") == 2)
    exchange.history.add("news", "3")
    await exchange.hub.check()
    await eventually(lambda: watcher.texts == ["1", "2", "3"])

    exchange.hub.unfollow(watcher, ["news"])
    await exchange.hub.check()
    assert exchange.hub.followers == {}


async def test_a_doorbell_that_the_layer_refuses_is_only_logged(
    exchange: Exchange, shaky: ShakyLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing goes on while the layer does not: the entry stands in the history."""
    watcher = await follow(exchange, "news")
    shaky.refuses = True
    exchange.publish("news", "1")

    await eventually(lambda: "did not take a doorbell" in caplog.text)
    assert watcher.texts == ["1"]


async def test_a_stream_starts_before_the_layer_answers(
    exchange: Exchange, shaky: ShakyLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the layer down from the start streams live on the history; when it is back, groups are joined."""
    monkeypatch.setattr(shaky, "new_channel", refuse := Refuse(shaky))
    watcher = Watcher()
    exchange.hub.add(watcher)
    await exchange.hub.follow(watcher, ["news"])
    exchange.publish("news", "1")
    await turns(1)
    assert watcher.texts == ["1"]
    assert groups_of(exchange.hub).channel is None

    refuse.over = True
    await eventually(lambda: members(exchange, "news"))


class Refuse:
    """A `new_channel` that fails until it is over."""

    def __init__(self, layer: InMemoryChannelLayer) -> None:
        self.over = False
        self._new_channel = layer.new_channel

    async def __call__(self) -> str:
        """Give a channel, or fail."""
        if not self.over:
            raise ConnectionError
        return str(await self._new_channel())


# -- followers come and go ---------------------------------------------------------------------------


async def test_one_follower_and_one_group_for_many_streams(exchange: Exchange) -> None:
    """However many streams follow a topic, this process is in its group once."""
    watchers = [await follow(exchange, "news") for _ in range(5)]
    assert list(exchange.hub.followers) == ["news"]
    assert members(exchange, "news") == [groups_of(exchange.hub).channel]

    exchange.publish("news", "1")
    await turns(1)
    assert [watcher.texts for watcher in watchers] == [["1"]] * 5


async def test_a_follower_outlives_its_last_stream_for_a_while(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page change costs no new start; after LINGER the topic is left, and nothing of it stays."""
    watcher = await follow(exchange, "news")
    follower = exchange.hub.followers["news"]
    exchange.hub.unfollow(watcher, ["news"])
    await exchange.hub.check()
    await turns()
    assert await exchange.hub.follow(watcher, ["news"]) == [follower]

    monkeypatch.setattr(hub, "LINGER", 0.0)
    await exchange.hub.check()
    await turns()
    assert "news" in exchange.hub.followers, "it has a stream again"

    exchange.hub.unfollow(watcher, ["news"])
    await exchange.hub.check()
    assert exchange.hub.followers == {}
    await eventually(lambda: members(exchange, "news") == [])
    assert exchange.hub._idle == {}
    assert [*groups_of(exchange.hub).joined] == [CONTROL_TOPIC]


async def test_unfollow_is_idempotent(exchange: Exchange) -> None:
    """To unfollow twice, or what was never followed, changes nothing; another stream's topic stays."""
    one, two = await follow(exchange, "news"), await follow(exchange, "news")
    exchange.hub.unfollow(one, ["news", "unknown"])
    exchange.hub.unfollow(one, ["news"])
    assert exchange.hub._idle == {}

    exchange.publish("news", "1")
    await turns(1)
    assert (one.texts, two.texts) == ([], ["1"])


class Slow:
    """A layer's method that waits at a gate."""

    def __init__(self, method: Callable[[str, str], Awaitable[None]]) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.called = 0
        self._method = method

    async def __call__(self, group: str, channel: str) -> None:
        """Do it when the gate is open."""
        self.called += 1
        self.begun.set()
        await self.gate.wait()
        await self._method(group, channel)


async def test_a_stream_that_comes_while_its_topic_is_left_keeps_it(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old leave does not undo a new join."""
    monkeypatch.setattr(hub, "LINGER", 0.0)
    leaving = Slow(exchange.layer.group_discard)
    monkeypatch.setattr(exchange.layer, "group_discard", leaving)
    first = await follow(exchange, "news")
    exchange.hub.unfollow(first, ["news"])
    await exchange.hub.check()
    await exchange.hub.check()
    await eventually(leaving.begun.is_set)
    await turns()
    assert leaving.called == 1

    following = asyncio.create_task(follow(exchange, "news"))
    await turns()
    leaving.gate.set()
    second = await following
    assert members(exchange, "news") == [groups_of(exchange.hub).channel]

    (entry,) = exchange.history.add("news", "announced")
    await exchange.announce(entry)
    await eventually(lambda: second.texts == ["announced"])


async def test_a_topic_that_is_being_left_is_not_renewed(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that both leaves a topic and renews memberships does not stay in the group."""
    monkeypatch.setattr(hub, "LINGER", 0.0)
    monkeypatch.setattr(groups, "RENEW", 0.0)
    group_add = exchange.layer.group_add

    async def slow(group: str, channel: str) -> None:
        await turns()
        await group_add(group, channel)

    watcher = await follow(exchange, "news")
    monkeypatch.setattr(exchange.layer, "group_add", slow)
    exchange.hub.unfollow(watcher, ["news"])
    await exchange.hub.check()

    await eventually(lambda: members(exchange, "news") == [])
    await turns()
    assert members(exchange, "news") == []
    assert [*groups_of(exchange.hub).joined] == [CONTROL_TOPIC]


async def test_a_topic_that_was_left_during_its_renewal(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal that is slower than the leaving of its topic does not stay in the group."""
    monkeypatch.setattr(hub, "LINGER", 0.0)
    watcher = await follow(exchange, "news")
    slow = Slow(exchange.layer.group_add)
    monkeypatch.setattr(exchange.layer, "group_add", slow)
    groups_of(exchange.hub).joined["news"] -= groups.RENEW
    await exchange.hub.check()
    await eventually(slow.begun.is_set)
    exchange.hub.unfollow(watcher, ["news"])
    await exchange.hub.check()
    assert exchange.hub.followers == {}
    slow.gate.set()

    await eventually(lambda: members(exchange, "news") == [])
    await turns()
    assert members(exchange, "news") == []
    assert [*groups_of(exchange.hub).joined] == [CONTROL_TOPIC]


async def test_a_layer_that_fails_at_leaving_keeps_nobody(
    exchange: Exchange, shaky: ShakyLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a group cannot be left, the follower ends all the same."""
    monkeypatch.setattr(hub, "LINGER", 0.0)
    watcher = await follow(exchange, "news")
    shaky.refuses = True
    exchange.hub.unfollow(watcher, ["news"])
    await exchange.hub.check()

    await eventually(lambda: not exchange.hub.followers)


async def test_a_layer_that_forgot_a_group_is_told_again(exchange: Exchange) -> None:
    """Where the tail check finds what nobody announced, the group is joined again, not only in an hour."""
    watcher = await follow(exchange, "news", "prices")
    exchange.layer.groups.clear()  # as a flushed Redis does
    (entry,) = exchange.history.add("news", "unannounced")
    await exchange.announce(entry)
    await exchange.hub.check()
    await eventually(lambda: watcher.texts == ["unannounced"])

    await eventually(lambda: members(exchange, "news") == [groups_of(exchange.hub).channel])
    assert members(exchange, "prices") == [], "nothing tells that it was forgotten"


async def test_one_renewal_at_a_time(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a slow layer is still busy with one renewal, the checks do not begin another."""
    await follow(exchange, "news")
    groups_of(exchange.hub).joined["news"] -= groups.RENEW
    hang = Hang()
    monkeypatch.setattr(exchange.layer, "group_add", hang)
    for _ in range(3):
        await exchange.hub.check()
        await turns()

    assert hang.called == 1


async def test_memberships_are_renewed_in_slices(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups whose membership is due are joined again, a bounded number per check."""
    topics = [f"topic.{number}" for number in range(5)]
    await follow(exchange, *topics)
    exchange.layer.groups.clear()
    await exchange.hub.check()
    assert exchange.layer.groups == {}, "nothing is due yet"

    monkeypatch.setattr(groups, "_RENEW_SLICE", 2)
    for topic in topics:
        groups_of(exchange.hub).joined[topic] -= groups.RENEW
    for expected in (2, 4, 5, 5):
        await exchange.hub.check()
        await turns()
        assert len(exchange.layer.groups) == expected


async def test_followers_start_at_once(exchange: Exchange) -> None:
    """A stream of many topics waits for the slowest start, not for all of them one after another."""
    exchange.history.gate.clear()
    watcher = Watcher()
    exchange.hub.add(watcher)
    following = asyncio.create_task(exchange.hub.follow(watcher, ["a", "b", "c"]))
    await eventually(lambda: len(exchange.history.tails) == 4)  # and of the control topic
    assert not following.done()
    check = asyncio.create_task(exchange.hub.check())  # which asks for no topic that has not started
    await eventually(lambda: exchange.history.tails[4:] == [()])
    exchange.history.gate.set()

    assert [follower.topic for follower in await following] == ["a", "b", "c"]
    await check


# -- flushing, beating -------------------------------------------------------------------------------


async def test_flushes_once_per_turn_in_slices(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fan-out to many streams yields to the loop between slices, and reaches all of them."""
    monkeypatch.setattr(fan_out, "_SLICE", 10)
    watchers = [Watcher() for _ in range(25)]
    for watcher in watchers:
        exchange.hub.fan_out.schedule(watcher)
    seen = []
    for _ in range(5):
        seen.append(sum(watcher.flushed for watcher in watchers))
        await asyncio.sleep(0)

    assert seen == [0, 10, 20, 25, 25]


async def test_a_topics_streams_are_offered_in_slices(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one topic's fan-out yields between slices; what comes meanwhile follows it, in order."""
    monkeypatch.setattr(fan_out, "_SLICE", 2)
    watchers = [await follow(exchange, "a", "b") for _ in range(5)]
    exchange.publish("a", "1")
    await asyncio.sleep(0)
    assert [watcher.texts for watcher in watchers] == [["1"], ["1"], [], [], []]
    exchange.publish("b", "2")
    exchange.publish("a", "3")
    await turns()

    assert [watcher.texts for watcher in watchers] == [["1", "2", "3"]] * 5


async def test_shares_the_loop_with_requests(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a request is under way the slices are small, and between them the loop waits for its thread."""
    monkeypatch.setattr(fan_out, "_SMALL_SLICE", 5)

    async def request() -> int:
        async with ThreadSensitiveContext():
            await sync_to_async(int)()
            for watcher in watchers:
                exchange.hub.fan_out.schedule(watcher)
            await eventually(lambda: any(watcher.flushed for watcher in watchers))
            seen = sum(watcher.flushed for watcher in watchers)
            assert await sync_to_async(threading.get_ident)() != threading.get_ident()
            return seen

    watchers = [Watcher() for _ in range(200)]
    assert await request() in range(5, 100, 5)
    await eventually(lambda: all(watcher.flushed == 1 for watcher in watchers))


async def test_a_stream_that_fails_to_flush_keeps_nobody_waiting(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    """One stream's fault is logged, and the next stream is flushed."""
    faulty, sound = Watcher(), Watcher()
    faulty.fault = RuntimeError("a bug")
    exchange.hub.fan_out.schedule(faulty)
    exchange.hub.fan_out.schedule(sound)
    await turns()

    assert sound.flushed == 1
    assert "A stream failed to flush" in caplog.text


async def test_a_stream_that_fails_at_a_heartbeat_stops_nobody_else(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """One stream's fault is logged; the ticker goes on for the others."""
    async with open_exchange(settings, HEARTBEAT=0.01) as exchange:
        faulty, sound = Watcher(), Watcher()
        faulty.fault = RuntimeError("a bug")
        exchange.hub.add(faulty)
        exchange.hub.add(sound)

        await eventually(lambda: len(sound.beats) > 2)
        assert "A stream failed" in caplog.text


async def test_beats_every_stream_while_it_is_served(settings: Settings) -> None:
    """A stream is looked at twice per HEARTBEAT, until it is discarded; discarding twice is harmless."""
    async with open_exchange(settings, HEARTBEAT=0.01) as exchange:
        one, two = Watcher(), Watcher()
        exchange.hub.add(one)
        exchange.hub.add(two)
        await eventually(lambda: len(one.beats) > 1)
        exchange.hub.streams.discard(one)
        exchange.hub.streams.discard(one)
        seen = len(one.beats)

        await eventually(lambda: len(two.beats) > seen + 2)
        assert len(one.beats) == seen


# -- tasks -------------------------------------------------------------------------------------------

_request: contextvars.ContextVar[str] = contextvars.ContextVar("_request", default="none")


async def test_tasks_know_nothing_of_a_request(exchange: Exchange) -> None:
    """A task of the hub runs in an empty context, or in the one that it is given."""
    seen = []

    async def look() -> None:
        seen.append(_request.get())

    _request.set("of somebody")
    exchange.hub.spawn(look())
    exchange.hub.spawn(look(), context=contextvars.copy_context())
    await turns()

    assert seen == ["none", "of somebody"]


class Held:
    """What a request holds."""


_held: contextvars.ContextVar[Held] = contextvars.ContextVar("_held")


async def test_no_task_of_the_hub_is_born_in_a_request(exchange: Exchange) -> None:
    """The tasks that the first stream and the first event start do not keep their request alive."""

    async def request() -> weakref.ref[Held]:
        held, watcher = Held(), Watcher()
        _held.set(held)
        exchange.hub.add(watcher)
        await exchange.hub.follow(watcher, ["news"])
        exchange.publish("news", "1")
        exchange.hub.followers["news"].heal()
        return weakref.ref(held)

    held = await asyncio.create_task(request())
    await turns()
    gc.collect()

    assert len(exchange.hub._tasks) >= 3
    assert held() is None


async def test_a_task_that_fails_is_logged(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    """No task of the hub fails in silence."""

    async def fail() -> None:
        raise RuntimeError

    exchange.hub.spawn(fail())
    await turns()

    assert "A task of the hub failed" in caplog.text
    assert exchange.hub._tasks == {}


async def test_close_ends_every_task(exchange: Exchange) -> None:
    """After close() nothing of the hub runs, it is rung no more, and closing again is harmless."""
    watcher = await follow(exchange, "news")
    exchange.hub.followers["news"].heal()
    before = asyncio.all_tasks() - {asyncio.current_task()}
    assert before

    await exchange.hub.close()
    await exchange.hub.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert layers.listener_of(asyncio.get_running_loop()) is None
    exchange.publish("news", "1")
    assert watcher.texts == []


# -- what is counted ---------------------------------------------------------------------------------


async def test_counts_what_it_serves(exchange: Exchange) -> None:
    """The streams and topics that are served now, and nothing else, where all went well."""
    published.reset()
    watcher = await follow(exchange, "news", "prices")
    exchange.publish("news", "1", "2")

    assert exchange.hub.snapshot() == Snapshot(
        streams=1,
        followers=2,
        opened=0,
        ends={},
        entries=2,
        heals=0,
        missed=0,
        spills=0,
        resets={},
        refusals=0,
        unsent=0,
        unversioned=0,
        failed=0,
        staleness=None,
    )
    exchange.hub.unfollow(watcher, ["news", "prices"])
    exchange.hub.streams.discard(watcher)
    assert exchange.hub.snapshot().streams == 0


async def test_counts_what_the_layer_lost(exchange: Exchange) -> None:
    """Each entry that no doorbell announced is missed; one that came early, or as its position, is not."""
    watcher = await follow(exchange, "news")
    lost, early = exchange.history.add("news", "lost", "early")
    await exchange.announce(early)
    await eventually(lambda: watcher.texts == ["lost", "early"])
    assert exchange.hub.snapshot().missed == 1
    await eventually(lambda: exchange.hub.followers["news"]._heal is followers.Heal.NO)

    (large,) = exchange.history.add("news", "x" * (layers.MAX_CARRIED + 1))
    await exchange.announce(large)
    await eventually(lambda: len(watcher.texts) == 3)
    snapshot = exchange.hub.snapshot()
    assert (snapshot.missed, snapshot.heals) == (1, 2)
    await exchange.announce(lost)
    assert exchange.hub.snapshot() == snapshot, "it is known"


async def test_counts_the_doorbells_that_the_layer_refused(exchange: Exchange, shaky: ShakyLayer) -> None:
    """What was published while the layer was down is counted where it was sent."""
    await follow(exchange, "news")
    shaky.refuses = True
    exchange.publish("news", "1", "2")

    await eventually(lambda: exchange.hub.snapshot().unsent == 2)


async def test_knows_how_stale_it_may_be(exchange: Exchange) -> None:
    """The age of the last tail check that worked; one that failed does not count."""
    await follow(exchange, "news")
    await exchange.hub.check()
    await eventually(lambda: (exchange.hub.snapshot().staleness or 0) > 0.01)

    exchange.history.fault = HistoryError("down")
    with pytest.raises(HistoryError):
        await exchange.hub.check()
    assert (exchange.hub.snapshot().staleness or 0) > 0.01
    exchange.history.fault = None
    before = exchange.hub.snapshot().staleness
    await exchange.hub.check()
    after = exchange.hub.snapshot().staleness
    assert before is not None
    assert after is not None
    assert after < before
