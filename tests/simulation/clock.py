"""Virtual time: an event loop that never waits."""

import asyncio
from selectors import SelectorKey, SelectSelector


class _Selector(SelectSelector):
    """Where another would wait for the network, the clock is put forward."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Return at once: there is no network."""
        if timeout is None:
            msg = "every task waits, and nothing is scheduled that could wake one"
            raise RuntimeError(msg)
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is due, one virtual moment after the other."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self._clock.now

    def stall(self, seconds: float) -> None:
        """Let time pass while nothing runs, as behind a blocking call."""
        self._clock.now += seconds
