"""What every site of the benchmark is told to send, and the events themselves, the same bytes for all.

An event is 34 characters: its number, and the clock when it was made, which all processes here share.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs

#: The topic of all events.
TOPIC = "bench"
#: Turns of the loop after each event, in which it can leave for every stream.
TURNS = 16

_tasks: set[asyncio.Task[None]] = set()


def text_of(number: int) -> str:
    """Return an event's text."""
    return f"{number:08d} {time.monotonic():025.9f}"


def id_of(number: int) -> str:
    """Return an id that is as long as this package's cursor of one topic."""
    return f"1~AAAAAAAA.{number + 1}.0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Send `count` events from number `first` on: `each` in a turn of the loop, `rate` a second (or 0)."""

    first: int
    count: int
    each: int = 1
    rate: float = 0.0

    @classmethod
    def parse(cls, query: str) -> Self:
        """Read an order from a query string."""
        values = {name: value[0] for name, value in parse_qs(query).items()}
        return cls(
            first=int(values["first"]),
            count=int(values["count"]),
            each=int(values.get("each", "1")),
            rate=float(values.get("rate", "0")),
        )

    def accept(self, publish: Callable[[range], Awaitable[None]]) -> None:
        """Carry it out in a task: the request that brought it is over before the first event."""
        task = asyncio.get_running_loop().create_task(self._carry_out(publish), context=Context())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    async def _carry_out(self, publish: Callable[[range], Awaitable[None]]) -> None:
        await asyncio.sleep(0.05)
        began = time.monotonic()
        for start in range(self.first, self.first + self.count, self.each):
            if self.rate:
                await asyncio.sleep(max(0.0, began + (start - self.first) / self.rate - time.monotonic()))
            await publish(range(start, min(start + self.each, self.first + self.count)))
            for _ in range(TURNS):
                await asyncio.sleep(0)
