"""The history of a world: the real one in memory, with latency, outages and losses."""

import asyncio
from collections.abc import Collection
from random import Random
from typing import Any

from django_sse.exceptions import HistoryError
from django_sse.history import Gone, MemoryHistory, Page
from django_sse.history.memory import _Log, _size
from django_sse.positions import Entry, Position
from django_sse.wire import Event
from tests.simulation.plan import Plan
from tests.simulation.truth import Truth


class WorldHistory(MemoryHistory):
    """Shared by all processes of a world; what it does is noted in the truth."""

    def __init__(self, *, plan: Plan, random: Random, truth: Truth) -> None:
        super().__init__(length=plan.length)
        self.truth = truth
        self.down_until = 0.0
        self.lost_acknowledgement = plan.lost_acknowledgement
        self.reads = 0
        self._latency = plan.latency
        self._random = random

    async def _travel(self) -> None:
        await asyncio.sleep(self._random.uniform(0, self._latency))
        if asyncio.get_running_loop().time() < self.down_until:
            msg = "the store does not answer"
            raise HistoryError(msg)

    async def aappend(self, topic: str, event: Event, **options: Any) -> Entry | None:
        """Append; the acknowledgement may be lost on its way back."""
        await self._travel()
        entry = self.append(topic, event, **options)
        await self._travel()
        if self._random.random() < self.lost_acknowledgement:
            msg = "the acknowledgement was lost"
            raise HistoryError(msg)
        return entry

    def append(self, topic: str, event: Event, **options: Any) -> Entry | None:
        """Append, and note what was stored and what was trimmed."""
        entry = super().append(topic, event, **options)
        if entry is not None:
            self.truth.append(entry)
        log = self._logs[topic]
        if not log.whole:
            self.truth.lose(topic, log.before)
        return entry

    async def read(self, topic: str, position: Position, *, limit: int) -> Page | Gone:
        """Read; the answer may be old when it arrives."""
        self.reads += 1
        await self._travel()
        page = await super().read(topic, position, limit=limit)
        await self._travel()
        return page

    async def atail(self, topics: Collection[str]) -> dict[str, Position]:
        """Return the tails; they may be old when they arrive."""
        await self._travel()
        tails = self.tail(topics)
        await self._travel()
        return tails

    def _log(self, topic: str) -> _Log:
        log = super()._log(topic)
        self.truth.begin(topic, log.before)
        return log

    # -- faults ---------------------------------------------------------------------------------

    def roll_back(self, count: int) -> None:
        """Lose the newest entries of each topic, as where a replica takes over that had not got them."""
        for topic, log in self._logs.items():
            # Never what follows trimmed entries: a store that has nothing left of a topic has forgotten it.
            for _ in range(min(count, len(log.entries) - (not log.whole))):
                newest = log.newest
                del log.entries[newest.offset]
                log.size -= _size(newest)
                self._size -= _size(newest)
                for key in [key for key, (_, offset) in log.made.items() if offset == newest.offset]:
                    del log.made[key]
                self.truth.lose_one(topic, newest.position)

    def forget(self, topic: str) -> None:
        """Lose a topic, as a store does that evicts keys."""
        if topic in self._logs:
            self.truth.lose(topic, self._logs[topic].tail)
            self._logs.move_to_end(topic, last=False)
            self._drop_topic()

    def flush(self, topics: Collection[str]) -> None:
        """Lose everything."""
        for topic in topics:
            self.truth.lose(topic, self._log(topic).tail)
        self.clear()
