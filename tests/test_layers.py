"""The doorbell: who is woken, and what goes through the layer."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, cast

import pytest
from channels.layers import BaseChannelLayer, InMemoryChannelLayer
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from django_sse import layers
from django_sse.layers import (
    LayerBell,
    decode_message,
    encode_message,
    listener_of,
    register,
    ring,
    unregister,
)
from django_sse.positions import MAX_OFFSET, MAX_TAG, Entry, Position
from django_sse.topics import group_name
from django_sse.wire import Event
from tests.test_positions import ENTRIES
from tests.waiting import eventually

who: ContextVar[str] = ContextVar("who", default="nobody")


def entry(text: str = "hi", *, offset: int = 1, topic: str = "orders") -> Entry:
    """Return an entry."""
    return Entry(
        topic=topic, offset=offset, tag=7, previous=6, time=1.5, event=Event(name="order", text=text)
    )


class Ear:
    """A listener that notes what it hears, and in which thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bell: LayerBell | None = None) -> None:
        self.loop = loop
        self.bell = bell
        self.heard: list[Entry] = []
        self.threads: set[int] = set()

    def hear(self, entry: Entry) -> None:
        """Note an entry."""
        self.heard.append(entry)
        self.threads.add(threading.get_ident())


class NotingBell(LayerBell):
    """A bell that notes what it is asked to ring."""

    def __init__(self) -> None:
        super().__init__(InMemoryChannelLayer())
        self.rung: list[Entry] = []

    def ring(self, entry: Entry) -> None:
        """Note an entry."""
        self.rung.append(entry)


class OtherLoop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run_what_is_ready(self) -> None:
        """Return when everything has run that was called before."""
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(timeout=10)

    def close(self) -> None:
        """End the thread and the loop."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(timeout=10)
            self.loop.close()


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> layers._Process:
    """Begin with a process that has no listeners yet."""
    process = layers._Process()
    monkeypatch.setattr(layers, "_process", process)
    return process


@pytest.fixture
def other() -> Iterator[OtherLoop]:
    """Return an event loop in a thread of its own, which ends with the test."""
    other = OtherLoop()
    yield other
    other.close()


class NotingLayer(BaseChannelLayer):
    """A layer that several processes share, and that notes what it is sent, and from which thread."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sent: list[tuple[str, str, int]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Note a message."""
        self.sent.append((group, message["text"], threading.get_ident()))


def test_a_process_without_streams_rings_from_a_thread_of_its_own(
    settings: Settings, process: layers._Process
) -> None:
    """A shell or a worker reaches other processes' streams, over one loop for all its doorbells."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.NotingLayer"}}
    layer = layers.get_layer()
    assert isinstance(layer, NotingLayer)

    for text in ("a", "b"):
        assert ring(entry(text)) is False
        process.finish()

    group = group_name("sse", "orders")
    assert [(sent, text) for sent, text, _ in layer.sent] == [(group, "a"), (group, "b")]
    assert len({thread for *_, thread in layer.sent} - {threading.get_ident()}) == 1


# -- this process's listeners --------------------------------------------------------------------------


def test_nobody_may_be_there() -> None:
    """Ringing where no stream ever was does nothing, and says so."""
    assert ring(entry()) is False


async def test_a_listener_in_this_loop_hears_at_once() -> None:
    """An append in the hub's own loop is heard before the publisher goes on."""
    ear = Ear(asyncio.get_running_loop())
    register(ear)

    assert ring(entry()) is True

    assert ear.heard == [entry()]


def test_a_listener_hears_in_its_own_thread(other: OtherLoop) -> None:
    """From plain code in another thread, the hub is woken, and called where it lives, in order."""
    ear = Ear(other.loop)
    register(ear)

    for offset in range(1, 101):
        assert ring(entry(offset=offset)) is True
    other.run_what_is_ready()

    assert [heard.offset for heard in ear.heard] == list(range(1, 101))
    assert ear.threads == {other.thread.ident}


async def test_every_loop_of_the_process_hears(other: OtherLoop) -> None:
    """Several event loops in one process each have their hub."""
    here, there = Ear(asyncio.get_running_loop()), Ear(other.loop)
    register(here)
    register(there)

    ring(entry())
    other.run_what_is_ready()

    assert here.heard == there.heard == [entry()]


async def test_a_new_listener_replaces_its_loops_old_one() -> None:
    """One hub per loop: what was there before hears nothing any more."""
    old, new = Ear(asyncio.get_running_loop()), Ear(asyncio.get_running_loop())
    register(old)
    register(new)

    ring(entry())

    assert (old.heard, new.heard) == ([], [entry()])
    assert listener_of(new.loop) is new


async def test_a_listener_can_leave() -> None:
    """After it, nobody is there; leaving twice, or in another's place, does nothing."""
    loop = asyncio.get_running_loop()
    old, new = Ear(loop), Ear(loop)
    register(old)
    register(new)

    unregister(old)
    assert listener_of(loop) is new
    unregister(new)
    unregister(new)

    assert listener_of(loop) is None
    assert ring(entry()) is False


def test_a_loop_that_has_ended_is_passed_over(other: OtherLoop) -> None:
    """A closed loop, as each test and each management command leaves one, disturbs nobody."""
    ear, ended = Ear(other.loop), asyncio.new_event_loop()
    gone = Ear(ended, bell=NotingBell())
    register(gone)
    register(ear)
    ended.close()

    assert ring(entry()) is True
    other.run_what_is_ready()

    assert (gone.heard, ear.heard) == ([], [entry()])


def test_a_closed_loop_is_forgotten(other: OtherLoop) -> None:
    """The next hub that comes clears away those whose loops have ended."""
    ended = asyncio.new_event_loop()
    register(Ear(ended))
    ended.close()

    register(Ear(other.loop))

    assert list(layers._process.listeners) == [other.loop]


async def test_one_loop_rings_for_the_process(other: OtherLoop) -> None:
    """However many hubs there are, the layer is told once; a hub without a layer is passed over."""
    bells = [NotingBell(), NotingBell()]
    register(Ear(asyncio.get_running_loop(), bell=None))
    register(Ear(other.loop, bell=bells[0]))
    later = OtherLoop()
    register(Ear(later.loop, bell=bells[1]))

    ring(entry())
    other.run_what_is_ready()
    later.run_what_is_ready()
    later.close()

    assert [bell.rung for bell in bells] == [[entry()], []]


async def test_the_bell_of_this_loop_rings_at_once() -> None:
    """A publisher in the hub's own loop needs no wake-up."""
    bell = NotingBell()
    register(Ear(asyncio.get_running_loop(), bell=bell))

    ring(entry())

    assert bell.rung == [entry()]


class ClosingLoop:
    """An event loop that closes between the look and the call."""

    def is_closed(self) -> bool:
        """Look open."""
        return False

    def call_soon_threadsafe(self, *args: object) -> None:
        """Be closed."""
        raise RuntimeError("Event loop is closed")


def test_a_loop_that_ends_now_is_passed_over(other: OtherLoop) -> None:
    """A loop that closes just then costs neither the publisher nor the other listeners anything."""
    ear = Ear(other.loop)
    register(Ear(cast("asyncio.AbstractEventLoop", ClosingLoop()), bell=NotingBell()))
    register(ear)

    assert ring(entry()) is True
    other.run_what_is_ready()

    assert ear.heard == [entry()]


def test_a_forked_child_starts_alone() -> None:
    """A child of a fork has another name, none of its parent's listeners, and a lock that is free."""
    script = """
import asyncio, os
from django_sse import layers

class Ear:
    bell = None
    loop = asyncio.new_event_loop()
    hear = print

layers.register(Ear())
before = layers._process.origin
layers._process.lock.acquire()
if os.fork() == 0:
    free = layers._process.lock.acquire(blocking=False)
    print(free, layers._process.listeners, layers._process.origin != before, flush=True)
    os._exit(0)
os.wait()
Ear.loop.close()
print(len(layers._process.listeners), layers._process.origin == before)
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.stdout == "True {} True\n1 True\n", run.stderr


# -- messages ------------------------------------------------------------------------------------------


def elsewhere(message: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a message as another process would send it."""
    return {**message, "origin": "elsewhere", **changes}


@given(ENTRIES)
def test_a_small_entry_travels_whole(sent: Entry) -> None:
    """What another process announces is the very entry that stands in the history."""
    assert decode_message(elsewhere(encode_message(sent))) == sent


def test_a_large_entry_sends_its_position_only() -> None:
    """Beyond 8 kB the layer carries no event: who hears of it reads the history."""
    room = layers.MAX_CARRIED - len(entry("").frame)
    largest, larger = entry("x" * room), entry("x" * (room + 1))

    assert len(largest.frame) == layers.MAX_CARRIED == 8192
    assert decode_message(elsewhere(encode_message(largest))) == largest
    assert "text" not in encode_message(larger)
    assert decode_message(elsewhere(encode_message(larger))) == ("orders", Position(offset=1, tag=7))


def test_a_process_ignores_its_own_echo() -> None:
    """What it sent itself, it has heard already."""
    assert decode_message(encode_message(entry())) is None


def test_messages_are_plain() -> None:
    """Every serialiser of every layer takes text and whole numbers."""
    assert {type(value) for value in encode_message(entry()).values()} == {str, int, float}


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "chat.message"},
        {"topic": None},
        {"topic": "two words"},
        {"topic": "sse-other"},
        {"topic": ["orders"]},
        {"offset": -1},
        {"offset": MAX_OFFSET + 1},
        {"offset": "1"},
        {"offset": 1.0},
        {"offset": True},
        {"tag": MAX_TAG + 1},
        {"tag": None},
        {"previous": -1},
        {"time": "yesterday"},
        {"time": None},
        {"time": 10**400},
        {"name": ""},
        {"name": "a\nb"},
        {"name": None},
        {"text": None},
        {"text": "a\0b"},
        {"text": b"hi"},
    ],
    ids=repr,
)
def test_malformed_messages_are_refused(changes: dict[str, Any]) -> None:
    """What this package would not have sent raises ValueError, and nothing else."""
    with pytest.raises(ValueError):
        decode_message(elsewhere(encode_message(entry()), **changes))


@pytest.mark.parametrize("key", ["type", "topic", "offset", "tag", "previous", "time", "name"])
def test_incomplete_messages_are_refused(key: str) -> None:
    """A message that lacks something is none of ours."""
    message = elsewhere(encode_message(entry()))
    del message[key]

    with pytest.raises(ValueError):
        decode_message(message)


@given(
    st.dictionaries(
        st.sampled_from([*encode_message(entry())]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text())
        ),
    )
)
def test_any_message_is_ours_or_refused(changes: dict[str, Any]) -> None:
    """Nothing but ValueError escapes, whatever a layer brings."""
    try:
        heard = decode_message({**encode_message(entry()), "origin": "elsewhere", **changes})
    except ValueError:
        return
    assert heard is None or isinstance(heard, Entry | tuple)


# -- the layer -----------------------------------------------------------------------------------------


class FaultyLayer(InMemoryChannelLayer):
    """A layer that fails, or waits, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.sent: list[int] = []
        self.context: list[str] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send, fail or wait."""
        await self.gate.wait()
        self.context.append(who.get())
        if self.faults:
            raise self.faults.pop(0)
        self.sent.append(message["offset"])
        await super().group_send(group, message)


async def test_a_bell_sends_to_the_topics_group() -> None:
    """Whoever joined the topic's group receives the message, and nobody else."""
    layer = InMemoryChannelLayer()
    ours, others = await layer.new_channel(), await layer.new_channel()
    await layer.group_add(group_name("sse", "room:5"), ours)
    await layer.group_add(group_name("sse", "room:6"), others)
    bell = LayerBell(layer)

    bell.ring(entry(topic="room:5"))

    async with asyncio.timeout(10):
        message = await layer.receive(ours)
    assert message == encode_message(entry(topic="room:5"))
    assert layer.channels.get(others) is None or layer.channels[others].empty()


async def test_a_bell_uses_the_projects_prefix(settings: Settings) -> None:
    """Two projects on one layer do not hear each other."""
    settings.DJANGO_SSE = {"GROUP_PREFIX": "shop"}
    layer = InMemoryChannelLayer()
    channel = await layer.new_channel()
    await layer.group_add("shop.t.orders", channel)

    LayerBell(layer).ring(entry())

    async with asyncio.timeout(10):
        assert (await layer.receive(channel))["topic"] == "orders"


async def test_a_bell_survives_a_layers_fault(caplog: pytest.LogCaptureFixture) -> None:
    """What a layer does not take is logged and lost, the next is sent: the history has both."""
    layer = FaultyLayer()
    layer.faults = [ConnectionError("down"), ValueError("odd")]
    bell = LayerBell(layer)

    for offset in (1, 2, 3):
        bell.ring(entry(offset=offset))
    await eventually(lambda: layer.sent)

    assert layer.sent == [3]
    assert [record.message for record in caplog.records] == ["The channel layer did not take a doorbell"] * 2


async def test_a_bell_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A layer that does not answer is given up for that doorbell, and asked again for the next."""
    monkeypatch.setattr(layers, "_TIMEOUT", 0.01)
    layer = FaultyLayer()
    layer.gate.clear()
    bell = LayerBell(layer)

    bell.ring(entry(offset=1))
    await eventually(lambda: caplog.records)
    layer.gate.set()
    bell.ring(entry(offset=2))
    await eventually(lambda: layer.sent)

    assert layer.sent == [2]
    assert "TimeoutError" in caplog.text


async def test_a_bell_sends_in_order_and_again() -> None:
    """Doorbells leave one after the other; after a silence too."""
    layer = FaultyLayer()
    bell = LayerBell(layer)

    for first in (1, 11):
        for offset in range(first, first + 10):
            bell.ring(entry(offset=offset))
        await eventually(lambda first=first: len(layer.sent) == first + 9)  # type: ignore[misc]
        await eventually(lambda: bell._task is not None and bell._task.done())

    assert layer.sent == list(range(1, 21))


async def test_a_slow_layer_costs_no_memory() -> None:
    """Where the layer takes nothing, a thousand doorbells wait, and the oldest are lost."""
    layer = FaultyLayer()
    layer.gate.clear()
    bell = LayerBell(layer)
    bell.ring(entry(offset=1))
    await eventually(lambda: not bell._waiting)  # the first is under way

    for offset in range(2, 2002):
        bell.ring(entry(offset=offset))
    layer.gate.set()
    await eventually(lambda: len(layer.sent) == 1001)

    assert layer.sent == [1, *range(1002, 2002)]


async def test_a_bell_does_not_keep_the_publishers_context() -> None:
    """The task that sends outlives the request that started it, and holds nothing of it."""
    layer = FaultyLayer()
    who.set("the request")

    LayerBell(layer).ring(entry())
    await eventually(lambda: layer.sent)

    assert layer.context == ["nobody"]


async def test_a_bell_can_be_closed() -> None:
    """Its task ends with it; closing one that never rang, or twice, does nothing."""
    layer = FaultyLayer()
    layer.gate.clear()
    bell = LayerBell(layer)
    bell.close()
    bell.ring(entry())
    task = bell._task
    assert task is not None

    bell.close()
    bell.close()
    await eventually(task.done)

    assert task.cancelled()
    assert layer.sent == []


def test_the_projects_layer_is_found(settings: Settings) -> None:
    """It is the one that CHANNEL_LAYER names; without any there is none, nor where it is in memory."""
    settings.CHANNEL_LAYERS = {
        alias: {"BACKEND": f"{__name__}.NotingLayer", "CONFIG": {"capacity": capacity}}
        for alias, capacity in (("default", 1), ("live", 2))
    }
    layer = layers.get_layer()
    assert isinstance(layer, BaseChannelLayer)
    assert layer.capacity == 1

    settings.DJANGO_SSE = {"CHANNEL_LAYER": "live"}
    layer = layers.get_layer()
    assert isinstance(layer, BaseChannelLayer)
    assert layer.capacity == 2

    settings.DJANGO_SSE = {}
    settings.CHANNEL_LAYERS = {}
    assert layers.get_layer() is None

    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    assert layers.get_layer() is None
