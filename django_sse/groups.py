"""The groups of one hub: through them the channel layer brings it the doorbells of its topics.

To join, to leave and to receive may fail, hang or come late. That costs latency, at most until the next
tail check, never an event.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Any, Final, NoReturn
from weakref import WeakValueDictionary

from channels.layers import BaseChannelLayer

from django_sse.followers import GRACE, MAX_BACKOFF
from django_sse.topics import group_name

logger = logging.getLogger(__name__)

#: Seconds after which a group membership is renewed; layers forget it after a day.
RENEW: Final = 3600.0
_RENEW_SLICE: Final = 100
#: Seconds that a layer may take to answer; it is a doorbell, and nothing waits for it longer.
_TIMEOUT: Final = 2.0


class Groups:
    """One channel of a layer, and the groups of topics that it is in."""

    def __init__(self, layer: BaseChannelLayer, *, prefix: str) -> None:
        self.channel: str | None = None
        #: When each topic's group was joined, by the clock of the event loop.
        self.joined: dict[str, float] = {}
        self._layer = layer
        self._prefix = prefix
        self._wanted: dict[str, None] = {}
        #: Held while a topic's group is joined or left: an old leave must not undo a new join.
        self._locks = WeakValueDictionary[str, asyncio.Lock]()

    async def join(self, topic: str) -> None:
        """Join a topic's group. Where that fails it is logged, and `renew` tries again."""
        self._wanted[topic] = None
        await self._settle(topic)

    async def leave(self, topic: str) -> None:
        """Leave a topic's group. Where that fails it is logged, and the layer forgets it after a day."""
        self._wanted.pop(topic, None)
        await self._settle(topic)

    def doubt(self, topic: str) -> None:
        """Let a topic's group be joined again soon: the layer may have forgotten who is in it."""
        self.joined.pop(topic, None)

    def due(self) -> list[str]:
        """Return the topics whose group must be joined again, a slice of them where they are many."""
        latest = asyncio.get_running_loop().time() - RENEW
        due = [
            topic
            for topic in self._wanted
            if self.joined.get(topic, -math.inf) <= latest and not self._lock(topic).locked()
        ]
        return due[:_RENEW_SLICE] if self.channel is not None else []

    async def renew(self, topics: list[str]) -> None:
        """Join groups again, those that were left meanwhile excepted."""
        for topic in topics:
            if topic in self._wanted:
                await self._settle(topic)

    def _lock(self, topic: str) -> asyncio.Lock:
        return self._locks.setdefault(topic, asyncio.Lock())

    async def _settle(self, topic: str) -> None:
        """Make the layer agree with what is wanted."""
        if self.channel is None:
            return  # `receive` joins every group when it has a channel
        try:
            async with asyncio.timeout(_TIMEOUT), self._lock(topic):
                wanted = topic in self._wanted
                change = self._layer.group_add if wanted else self._layer.group_discard
                self.joined.pop(topic, None)
                await change(group_name(self._prefix, topic), self.channel)
                if wanted:
                    self.joined[topic] = asyncio.get_running_loop().time()
        except Exception:
            # Whatever a layer raises: the tail check bounds what this costs, and the renewal mends it soon.
            logger.warning("A group could not be joined or left", exc_info=True)

    async def receive(
        self, *, hear: Callable[[dict[str, Any]], None], joined: Callable[[str], None]
    ) -> NoReturn:
        """Bring every message to `hear`, for good.

        ``joined`` is told of each topic whose group was joined, here at the beginning and after a fault,
        when others may have announced something that did not arrive. Cancelling or timing out a layer's
        own receive() loses messages, so this runs in one task, as long as its hub lives.
        """
        delay, is_in = GRACE, False
        while True:
            try:
                if self.channel is None:
                    self.channel = await self._layer.new_channel()
                if not is_in:
                    is_in = True
                    for topic in list(self._wanted):
                        await self.renew([topic])
                        joined(topic)
                hear(await self._layer.receive(self.channel))
                delay = GRACE
            except Exception as error:
                if _is_timeout(error):
                    await asyncio.sleep(GRACE)
                    continue
                logger.warning("The channel layer failed; trying again in %.2f s", delay, exc_info=True)
                # It may have forgotten the channel's groups: join them again.
                is_in = False
                await asyncio.sleep(delay)
                delay = min(delay * 2, MAX_BACKOFF)


def _is_timeout(error: Exception) -> bool:
    """Tell whether nothing came for a while; what redis-py 8 raises then is no TimeoutError of Python's."""
    return any(kind.__name__ == "TimeoutError" for kind in type(error).__mro__)
