"""Clients: they follow topics, lose their connections, and come back with the last id they have whole."""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from django_sse.positions import Cursor
from django_sse.wire import Parser
from tests.simulation.checker import Checker
from tests.simulation.processes import Pipe, Process

if TYPE_CHECKING:
    from tests.simulation.world import World


class Client:
    """One browser."""

    def __init__(self, world: "World", name: str) -> None:
        self.checker = Checker(who=name, truth=world.truth)
        self.topics: tuple[str, ...] = ()
        self.connects = 0
        self._world = world
        self._random = Random(f"{world.seed} {name}")
        self._name = name
        self._id = ""
        self._pace = self._random.choice([0.0, world.plan.pace])
        self._choose_topics()

    def _choose_topics(self) -> None:
        names = self._world.topics
        self.topics = tuple(self._random.sample(names, self._random.randint(1, len(names))))

    async def run(self) -> None:
        """Follow until the end of the world."""
        await self._world.pause(self._random.uniform(0, self._world.plan.arrival))
        while True:
            process = self._world.some_process(self._random)
            if process is not None:
                await self._follow(process)
            if self._random.random() < 0.1 and not self._world.calm.is_set():
                self._choose_topics()
            await self._world.pause(self._random.uniform(0, 3))
            await asyncio.sleep(0.05)

    async def _follow(self, process: Process) -> None:
        self.connects += 1
        cursor = Cursor.parse(self._id) if self._id else None
        pipe = process.serve(self.topics, cursor=cursor, max_pending=self._world.plan.max_pending)
        parser = Parser(last_event_id=self._id)
        doomed = asyncio.Event()
        self._doom(pipe, doomed)
        try:
            while data := await pipe.read():
                await self._be_slow(len(data))
                if cut := pipe.broken or (doomed.is_set() and not self._world.calm.is_set()):
                    data = data[: self._random.randrange(len(data) + 1)]
                self._read(parser, data)
                if cut:
                    break
        finally:
            process.leave(pipe)

    def _doom(self, pipe: Pipe, doomed: asyncio.Event) -> None:
        """Decide when the connection ends: at once then, or in the middle of the next write."""
        if (mean := self._world.plan.cut) is None:
            return
        seconds = self._random.expovariate(1 / mean)
        end = self._random.choice([pipe.cut, doomed.set])
        self._world.later(seconds, end)

    async def _be_slow(self, size: int) -> None:
        seconds = self._pace * size / 1000
        if self._pace and self._random.random() < 0.03:
            seconds += self._random.uniform(0, 8)
        if seconds:
            await self._world.pause(seconds)

    def _read(self, parser: Parser, data: bytes) -> None:
        self._world.note(self._name, data)
        step = self._random.choice([7, 100, 10_000])
        for start in range(0, len(data), step):
            for message in parser.feed(data[start : start + step]):
                self.checker.take(message, before=self._id, topics=self.topics)
                self._id = message.id
        self._id = parser.last_event_id
