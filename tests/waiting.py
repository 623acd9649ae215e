"""Waiting on conditions, bounded, in tests that run an event loop."""

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Return as soon as a condition holds; raise TimeoutError where it does not in time."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  (any condition, not only an event)
            await asyncio.sleep(0.001)


async def turns(count: int = 20) -> None:
    """Let everything that is ready go on for some turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)
