"""One run of a world: in virtual time, with all chance from its seed."""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import SimpleNamespace
from typing import Final

import pytest

import django_sse.groups
import django_sse.hub
from django_sse import followers, layers
from django_sse.exceptions import HistoryError
from django_sse.history import memory
from tests.simulation.cast import Cast
from tests.simulation.clock import VirtualLoop
from tests.simulation.layer import LayerError
from tests.simulation.plan import Plan
from tests.simulation.world import LINGER, Report, World

#: Limits of the product, made so small that a short life meets them all.
_SMALL: Final = (
    (followers, "READ_LIMIT", 5),
    (django_sse.hub, "READ_LIMIT", 5),
    (followers, "_MAX_EARLY", 6),
    (followers, "_RECENT", 8),
    (django_sse.hub, "LINGER", LINGER),
    (django_sse.groups, "RENEW", 20.0),
    (layers, "MAX_CARRIED", 200),
)


class _Log(logging.Handler):
    """Takes what the product logs: injected faults are to be expected, anything else is an error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what no fault explains."""
        error = record.exc_info[1] if record.exc_info else None
        expected = error is None or isinstance(error, HistoryError | LayerError | TimeoutError)
        if record.levelno >= logging.ERROR or not expected:
            self.errors.append(f"{record.getMessage()}: {error!r}")


@contextmanager
def _logged() -> Iterator[list[str]]:
    log, logger = _Log(), logging.getLogger("django_sse")
    before = logger.propagate
    logger.addHandler(log)
    logger.propagate = False  # a world logs a lot
    try:
        yield log.errors
    finally:
        logger.removeHandler(log)
        logger.propagate = before


@contextmanager
def _seeded(seed: int, cast: Cast, loop: VirtualLoop) -> Iterator[pytest.MonkeyPatch]:
    """Take all chance from the seed, and all time from the loop."""
    chance, before = Random(f"{seed} product"), random.getstate()
    random.seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "draw_tag", lambda: chance.getrandbits(40))
        patch.setattr(memory, "token_bytes", chance.randbytes)
        patch.setattr(memory, "time", SimpleNamespace(time=loop.time))
        patch.setattr(django_sse.hub, "Follower", cast.follower)
        for module, name, value in _SMALL:
            patch.setattr(module, name, value)
        try:
            yield patch
        finally:
            random.setstate(before)


def run(seed: int, plan: Plan, cast: Cast | None = None) -> Report:
    """Run one world in virtual time; the same arguments give the same report, byte for byte."""
    cast = cast or Cast()

    async def live() -> Report:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        with _seeded(seed, cast, loop) as patch, _logged() as errors:
            world = World(seed, plan, cast)
            patch.setattr(django_sse.hub, "get_history", lambda: world.history)
            return await world.run(errors)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(live())
