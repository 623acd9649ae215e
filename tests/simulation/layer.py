"""The channel layer of a world: it loses, doubles, delays and reorders messages."""

import asyncio
from collections import defaultdict
from random import Random
from typing import Any

from channels.layers import BaseChannelLayer

from tests.simulation.plan import Plan

#: What other programs on the same store may send.
_FOREIGN: tuple[dict[str, Any], ...] = (
    {"type": "chat.message", "text": "hello"},
    {"type": "sse.entry"},
    {"type": "sse.entry", "topic": "topic-0", "offset": 10**400, "tag": 1},
    {"type": "sse.entry", "topic": "topic-0", "offset": True, "tag": 1},
    {
        "type": "sse.entry",
        "topic": "topic-0",
        "offset": 3,
        "tag": 1,
        "previous": 2,
        "time": 1,
        "name": "e",
        "text": "forged",
    },
)


class LayerError(ConnectionError):
    """The layer's connection broke."""


class Bus:
    """What carries the messages of all processes."""

    def __init__(self, *, plan: Plan, random: Random) -> None:
        self.random = random
        self.latency = plan.latency
        self.loss = plan.loss
        self.doubling = plan.doubling
        self.delay = plan.delay
        self.foreign = plan.foreign
        self.dark_until = 0.0
        self.broken_until = 0.0
        self.groups: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.queues: dict[str, asyncio.Queue[dict[str, Any] | None]] = {}
        self.sent = 0
        self.lost = 0

    @property
    def broken(self) -> bool:
        """Whether connections break now."""
        return asyncio.get_running_loop().time() < self.broken_until

    def carry(self, channel: str, message: dict[str, Any]) -> None:
        """Bring a message to a channel, or fail to."""
        queue = self.queues.get(channel)
        loop = asyncio.get_running_loop()
        self.sent += 1
        if queue is None or loop.time() < self.dark_until or self.random.random() < self.loss:
            self.lost += 1
            return
        for _ in range(2 if self.random.random() < self.doubling else 1):
            loop.call_later(self.random.uniform(0, self.delay), queue.put_nowait, message)
        if self.random.random() < self.foreign:
            queue.put_nowait(self.random.choice(_FOREIGN))

    def break_connections(self, until: float) -> None:
        """Wake whoever receives, to find the connection broken."""
        self.broken_until = until
        for queue in self.queues.values():
            queue.put_nowait(None)

    def evict(self) -> None:
        """Forget a member of a group, as a store does whose key expired."""
        if members := [(group, name) for group, names in self.groups.items() for name in names]:
            group, name = self.random.choice(members)
            del self.groups[group][name]


class WorldLayer(BaseChannelLayer):
    """One process's connection to the bus."""

    def __init__(self, bus: Bus, process: str) -> None:
        super().__init__()
        self._bus = bus
        self._process = process
        self._channels: dict[str, asyncio.Queue[dict[str, Any] | None]] = {}

    async def _travel(self) -> None:
        await asyncio.sleep(self._bus.random.uniform(0, self._bus.latency))
        if self._bus.broken and self._bus.random.random() < 0.5:
            msg = "the layer's connection broke"
            raise LayerError(msg)

    async def new_channel(self) -> str:
        """Return a new channel."""
        await self._travel()
        channel = f"{self._process}.{len(self._channels)}"
        self._channels[channel] = self._bus.queues[channel] = asyncio.Queue()
        return channel

    async def group_add(self, group: str, channel: str) -> None:
        """Join."""
        await self._travel()
        self._bus.groups[group][channel] = None

    async def group_discard(self, group: str, channel: str) -> None:
        """Leave."""
        await self._travel()
        self._bus.groups[group].pop(channel, None)
        await self._travel()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send to whoever is a member when it arrives."""
        await self._travel()
        # All processes of a world are one in truth; only the sender's own channel knows its own echo.
        from_outside = message | {"origin": self._process}
        for channel in list(self._bus.groups[group]):
            self._bus.carry(channel, message if channel in self._channels else from_outside)

    async def receive(self, channel: str) -> dict[str, Any]:
        """Wait for the next message."""
        while True:
            message = await self._channels[channel].get()
            if message is not None:
                return message
            if self._bus.broken:
                msg = "the layer's connection broke while waiting"
                raise LayerError(msg)

    def crash(self) -> None:
        """Take its channels off the bus."""
        for channel in self._channels:
            self._bus.queues.pop(channel, None)
            for members in self._bus.groups.values():
                members.pop(channel, None)
