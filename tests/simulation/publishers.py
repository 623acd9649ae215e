"""Publishers: they append, try again where the answer is lost, and ring, unless they crash before."""

import asyncio
from itertools import count
from random import Random
from typing import TYPE_CHECKING

from django_sse.exceptions import HistoryError
from django_sse.layers import LayerBell
from django_sse.positions import Entry
from django_sse.wire import Event
from tests.simulation.layer import WorldLayer

if TYPE_CHECKING:
    from tests.simulation.world import World


class Publisher:
    """Sends events now from a process that serves, now from a worker that does not."""

    def __init__(self, world: "World", name: str, rate: float) -> None:
        self._world = world
        self._name = name
        self._rate = rate
        self._random = Random(f"{world.seed} {name}")
        self._bell = LayerBell(WorldLayer(world.bus, name))
        self._numbers = count()

    async def run(self) -> None:
        """Send until the world is calm."""
        calm, random = self._world.calm, self._random
        while not calm.is_set():
            await self._world.pause(random.expovariate(self._rate))
            for _ in range(15 if random.random() < 0.1 else 1):
                await self._publish(random.choice(self._world.topics))

    async def _publish(self, topic: str) -> None:
        random = self._random
        key = f"{self._name}.{next(self._numbers)}"
        padding = "x" * random.choice([0, 0, 5, 20, 150, 300, random.randint(0, 1200)])
        process = self._world.some_process(random) if random.random() < 0.7 else None
        entry = await self._append(topic, Event(name="e", text=f"{topic}/{key}/{padding}"), key)
        crashes = random.random() < self._world.plan.silent_publication
        if entry is None or crashes:
            return
        if process is None:
            self._bell.ring(entry)
        elif process.alive:
            process.ring(entry)

    async def _append(self, topic: str, event: Event, key: str) -> Entry | None:
        while True:
            try:
                entry = await self._world.history.aappend(topic, event, idempotency_key=key)
            except HistoryError:
                await asyncio.sleep(self._random.uniform(0, 0.5))
            else:
                self._world.note(self._name, event.text.encode())
                return entry
