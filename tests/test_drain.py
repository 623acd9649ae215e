"""When a process is asked to stop, every stream ends politely, and nobody waits for the slow ones."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from threading import Thread
from types import ModuleType

import pytest
from pytest_django import Settings

from django_sse import drain, hub
from django_sse.conf import get_settings
from django_sse.open_streams import OpenStreams
from django_sse.streams import Stream
from tests.exchange import Exchange, open_exchange
from tests.servers.process import ROOT
from tests.streams.clients import Client
from tests.test_hub import Watcher
from tests.waiting import eventually, turns


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub."""
    async with open_exchange(settings, CHECK=3600, HEARTBEAT=3600) as exchange:
        yield exchange


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Return the SIGTERMs that came through to the server's handler."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, before)


async def connect(topic: str = "a") -> Client:
    """Return a client whose stream has begun."""
    client = Client(Stream([topic], settings=get_settings())).open()
    await eventually(lambda: "sse-open" in client.names)
    return client


def closing(client: Client) -> dict[str, object]:
    """Return what the last event of a client told."""
    assert client.names[-1] == "sse-close"
    told: dict[str, object] = json.loads(client.messages[-1].text)
    return told


async def test_every_stream_ends_and_is_told_when_to_come_back(exchange: Exchange) -> None:
    """What was queued comes first; then the reason, and seconds that differ from stream to stream."""
    clients = [await connect() for _ in range(5)]
    exchange.publish("a", "last")
    await drain.drain(exchange.hub)
    for client in clients:
        assert client.texts == ["last"]
        assert closing(client) == {"reason": "shutdown", "reconnect": True}
        assert client.done
        assert client.parser.retry is not None
        assert 3 <= client.parser.retry <= 6
    assert len({client.parser.retry for client in clients}) == 5
    assert not exchange.hub.streams


async def test_many_streams_come_back_over_a_longer_time() -> None:
    """5,000 are spread over ten seconds: nowhere near all of them in any one."""
    open_streams = OpenStreams(get_settings())
    retries: list[float] = []

    class Noting(Watcher):
        def end(self, reason: str, *, retry: float | None = None, drop: bool = False) -> None:
            assert retry is not None
            retries.append(retry)

    open_streams.end([Noting() for _ in range(5000)], "shutdown")
    slots = Counter(int(retry) for retry in retries)
    assert set(slots) == set(range(3, 13))
    assert max(slots.values()) < 700


async def test_new_streams_are_sent_away_while_it_stops(exchange: Exchange) -> None:
    """They get an answer that lets browsers come back, not an error that stops them."""
    await drain.drain(exchange.hub)
    client = Client(Stream(["a"], settings=get_settings())).open()
    await eventually(lambda: client.done)
    assert client.names == ["sse-close"]
    assert closing(client) == {"reason": "shutdown", "reconnect": True}
    assert client.parser.retry is not None


async def test_nobody_waits_for_a_stalled_client(exchange: Exchange) -> None:
    """The others have left at once; the stalled one is cut off when its grace is over."""
    stalled, sound = await connect(), await connect()
    stalled.stall()
    exchange.publish("a", "1")
    await turns()
    stopping = asyncio.get_running_loop().create_task(drain.drain(exchange.hub))
    await eventually(lambda: sound.done)
    assert not stopping.done()
    await asyncio.wait_for(stopping, 10)
    assert stalled.aborted
    assert not sound.aborted


async def test_many_streams_are_no_slow_clients(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """While streams leave one after the other nobody is given up, however long it takes in all."""
    clients = [await connect() for _ in range(5)]
    for client in clients:
        client.stall()
    exchange.publish("a", "1")
    await turns()
    waiting, now = list(clients), 0.0

    async def pause() -> None:
        """Let most of a grace go by, and one client read."""
        nonlocal now
        now += 0.9 * drain.GRACE
        if waiting:
            waiting.pop().read()
        await turns()

    monkeypatch.setattr(drain, "monotonic", lambda: now)
    monkeypatch.setattr(drain, "_pause", pause)
    await asyncio.wait_for(drain.drain(exchange.hub), 10)
    assert now > 4 * drain.GRACE
    assert not any(client.aborted for client in clients)


async def test_a_signal_ends_the_streams_then_reaches_the_server(
    exchange: Exchange, heard: list[int]
) -> None:
    """The server's own handler is called when they have left, and not before."""
    client = await connect()
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == []
    await eventually(lambda: heard)
    assert closing(client)["reason"] == "shutdown"
    assert heard == [signal.SIGTERM]


async def test_who_asks_twice_does_not_want_to_wait(exchange: Exchange, heard: list[int]) -> None:
    """A second signal reaches the server at once."""
    stalled = await connect()
    stalled.stall()
    exchange.publish("a", "1")
    await turns()
    os.kill(os.getpid(), signal.SIGTERM)
    await turns()
    assert heard == []
    os.kill(os.getpid(), signal.SIGTERM)
    await turns()
    assert heard == [signal.SIGTERM]
    await eventually(lambda: len(heard) == 2)


async def test_a_signal_that_nobody_handles_is_left_alone(exchange: Exchange) -> None:
    """Where the server relies on the system's default, or ignores a signal, nothing stands in front."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        await connect()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGQUIT, before)


async def test_the_streams_of_every_loop_end(settings: Settings, heard: list[int]) -> None:
    """A process may serve from several event loops, also from one in a thread, which gets no signals."""
    opened, ended = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        client = await connect()
        loop.call_soon_threadsafe(opened.set)
        await eventually(lambda: client.done)
        ended.append(closing(client)["reason"])
        await hub.Hub.current().close()

    async with open_exchange(settings, CHECK=3600, HEARTBEAT=3600):
        thread = Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        await asyncio.wait_for(opened.wait(), 10)
        client = await connect()
        os.kill(os.getpid(), signal.SIGTERM)
        await eventually(lambda: heard and not thread.is_alive())
        thread.join()
        assert ended == [closing(client)["reason"]] == ["shutdown"]


def test_what_is_served_from_a_thread_ends_with_the_process() -> None:
    """Django's autoreloader serves from a thread, and just leaves: the streams end before it does."""
    program = """
import asyncio, threading, django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_sse"])
django.setup()
from django_sse.conf import get_settings
from django_sse.streams import Stream
from tests.streams.clients import Client
from tests.waiting import eventually

opened = threading.Event()

async def serve():
    client = Client(Stream(["a"], settings=get_settings())).open()
    await eventually(lambda: "sse-open" in client.names)
    opened.set()
    await eventually(lambda: client.done)
    print(client.messages[-1].text, flush=True)

threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
assert opened.wait(10)
raise SystemExit(3)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (3, "")
    assert json.loads(ended.stdout)["reason"] == "shutdown"


async def test_hypercorn_is_asked_to_wait(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers hear of a shutdown by an event that no handler sees; streams end before they act on it."""
    module = ModuleType("hypercorn.asyncio.run")
    seen: list[int] = []

    async def raise_shutdown(shutdown_event: Callable[[], Awaitable[None]]) -> None:
        await shutdown_event()
        seen.append(len(exchange.hub.streams))

    module.raise_shutdown = raise_shutdown  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hypercorn.asyncio.run", module)
    monkeypatch.setattr(hub, "at_start", dict(hub.at_start))
    drain.prepare()
    client, event = await connect(), asyncio.Event()
    waiting = asyncio.get_running_loop().create_task(module.raise_shutdown(event.wait))
    await turns()
    assert seen == []
    event.set()
    await asyncio.wait_for(waiting, 10)
    assert seen == [0]
    assert closing(client)["reason"] == "shutdown"
