"""One process's hub over a history that a test can hold, take down and turn back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

from channels.layers import InMemoryChannelLayer
from pytest_django import Settings

from django_sse import layers
from django_sse.counters import published
from django_sse.history import Gone, MemoryHistory, Page, get_history
from django_sse.history.base import draw_tag
from django_sse.history.memory import _Log
from django_sse.hub import Hub
from django_sse.positions import Entry, Position
from django_sse.topics import group_name
from django_sse.wire import Event
from tests.waiting import turns


class Line(InMemoryChannelLayer):
    """A layer that other processes could hear: the package passes by the one in memory."""


class ShakyHistory(MemoryHistory):
    """A history in memory that notes its reads, waits at its gate, and fails while it has a fault."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        #: How many turns of the loop the next answer takes.
        self.pause: Callable[[], int] = int
        self.reads: list[tuple[str, Position]] = []
        self.tails: list[tuple[str, ...]] = []
        self.under_way = 0
        self.most_under_way = 0

    async def read(self, topic: str, position: Position, *, limit: int) -> Page | Gone:
        """Read as the history was when it was asked, and answer when the gate is open."""
        self.reads.append((topic, position))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        page = await super().read(topic, position, limit=limit)
        try:
            await self._pass()
        finally:
            self.under_way -= 1
        return page

    async def atail(self, topics: Collection[str]) -> dict[str, Position]:
        """Take the tails as they were when asked, and answer when the gate is open."""
        self.tails.append(tuple(topics))
        tails = self.tail(topics)
        await self._pass()
        return tails

    async def _pass(self) -> None:
        await self.gate.wait()
        await turns(self.pause())
        if self.fault is not None:
            raise self.fault

    def add(self, topic: str, *texts: str) -> list[Entry]:
        """Append events without ringing: another process did, and its doorbell was lost."""
        entries = [self.append(topic, Event(text=text)) for text in texts]
        return [entry for entry in entries if entry is not None]

    def snapshot(self, topic: str) -> _Log:
        """Return a copy of a topic's log, for `restore`."""
        log = copy(self._log(topic))
        log.entries = dict(log.entries)
        return log

    def restore(self, topic: str, log: _Log) -> None:
        """Turn a topic back to a copy of its log."""
        self._logs[topic] = log
        self._size = sum(log.size for log in self._logs.values())

    def forget(self, topic: str) -> None:
        """Lose a topic, as a store does that was flushed."""
        self.restore(topic, _Log(before=Position(offset=0, tag=draw_tag())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What one process has."""

    hub: Hub
    history: ShakyHistory
    layer: Line

    def publish(self, topic: str, *texts: str) -> list[Entry]:
        """Append events, and ring in this process."""
        entries = self.history.add(topic, *texts)
        for entry in entries:
            layers.ring(entry)
        return entries

    async def announce(self, entry: Entry, **changes: Any) -> None:
        """Ring as another process would, through the layer alone."""
        message: Mapping[str, Any] = {**layers.encode_message(entry), "origin": "elsewhere", **changes}
        await self.layer.group_send(group_name("sse", entry.topic), dict(message))


@asynccontextmanager
async def open_exchange(settings: Settings, **options: Any) -> AsyncIterator[Exchange]:
    """Make the hub of this event loop, with these settings, and end it."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "tests.exchange.Line"}}
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": "tests.exchange.ShakyHistory"}, **options}
    published.reset()  # the process's, and so of earlier tests
    history, layer, hub = get_history(), layers.get_layer(), Hub.current()
    assert isinstance(history, ShakyHistory)
    assert isinstance(layer, Line)
    try:
        yield Exchange(hub=hub, history=history, layer=layer)
    finally:
        await hub.close()
