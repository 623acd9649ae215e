"""What is heard and written in one turn of the event loop.

Entries gather in their follower until the next turn, then leave to its streams, slice by slice: whoever
is idle writes at once, whoever waits for something queues them and is flushed behind. What came in one
turn leaves each stream as one write, and events of several topics keep their order.
"""

import asyncio
import logging
from collections import deque
from typing import Final, Protocol

from django_sse import threads
from django_sse.followers import Follower

logger = logging.getLogger(__name__)

#: Streams written to before the loop may turn to other work; fewer while requests are under way.
_SLICE: Final = 100
_SMALL_SLICE: Final = 25
#: Seconds between two slices while requests are under way. Each has a dozen turns in a thread, which gets the
#: interpreter from a loop that never waits after 5 ms each (sys.getswitchinterval).
_PAUSE: Final = 0.001


class Flushed(Protocol):
    """What gathers during a turn: a stream its bytes, a follower its entries."""

    def flush(self) -> None:
        """Pass on what was gathered."""


class FanOut:
    """Takes the entries that followers hear to their streams, and flushes streams, in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Flushed] = deque()
        self._is_due = False
        #: The one follower whose entries gather, and the one whose entries are on their way to streams.
        self._gathering: Follower | None = None
        self._passing: Follower | None = None

    def gather(self, follower: Follower) -> None:
        """Let a follower gather entries until its turn, or until another one gathers: topics keep order."""
        if self._gathering is not None and self._gathering is not follower:
            self.settle()
        self._gathering = follower
        self.schedule(follower)

    def settle(self) -> None:
        """Let streams be offered what was heard, before something else is done with them."""
        if self._passing is not None:
            self._passing.finish()
        if self._gathering is not None:
            self._gathering.flush()
        self._passing = self._gathering = None

    def schedule(self, one: Flushed) -> None:
        """Serve a stream or a follower once, behind those that wait: in the next turn where none do."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._turn)
        self._waiting.append(one)

    def _turn(self) -> None:
        is_shared = threads.are_in_use()
        room = _SMALL_SLICE if is_shared else _SLICE
        while room > 0 and (self._passing is not None or self._waiting):
            room -= self._step(room)
        # A fan-out to thousands yields here, so that other requests are served.
        self._is_due = self._passing is not None or bool(self._waiting)
        if self._is_due and is_shared:
            self._loop.call_later(_PAUSE, self._turn)
        elif self._is_due:
            self._loop.call_soon(self._turn)

    def _step(self, room: int) -> int:
        """Serve the next one that waits, or so many of a follower's streams; return how many were served."""
        if self._passing is None:
            one = self._waiting.popleft()
            if not isinstance(one, Follower):
                try:
                    one.flush()
                except Exception:
                    # One stream's fault must not keep the others waiting.
                    logger.exception("A stream failed to flush")
                return 1
            if one is self._gathering:
                self._gathering = None
            self._passing = one
        count = self._passing.pass_on(room)
        if count < room:
            self._passing = None
        return count
