"""A process's place in one topic.

A follower trusts an announced entry only if it is the very next one after what it has; anything else
makes it read the history. It is told of entries by its hub, and offers them, in order, to the streams
that follow its topic: together, what came before it was flushed.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from enum import Enum
from itertools import islice
from typing import Any, Final, Protocol

from django_sse.counters import Counters
from django_sse.exceptions import HistoryError
from django_sse.history.base import BaseHistory, Gone
from django_sse.positions import Batch, Entry, Position

logger = logging.getLogger(__name__)

#: Seconds that an entry which came too early waits for the one before it.
GRACE: Final = 0.05
#: Entries per read of the history.
READ_LIMIT: Final = 500
_RECENT: Final = 64
_MAX_EARLY: Final = 64
#: Bytes of entries that wait to be offered.
_MAX_BATCH: Final = 65536
#: The longest wait, in seconds, between two tries of what fails.
MAX_BACKOFF: Final = 5.0


class Following(Protocol):
    """What follows a topic: a stream."""

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Take the next entries; never blocks. Where told so, write them at once if nothing waits."""

    def suspect(self, topic: str) -> None:
        """Compare with the history again: what was offered may have been rolled back."""

    def healed(self) -> None:
        """Look again whether it can go live: the follower has asked the history."""


class Gatherer(Protocol):
    """What takes entries from followers to streams, together: a fan-out."""

    def gather(self, follower: "Follower") -> None:
        """Come back for a follower's entries soon."""

    def settle(self) -> None:
        """Let streams be offered everything that was heard."""


async def back_off(error: Exception, delay: float) -> float:
    """Wait after a fault of the history, whatever it raised; return how long to wait after the next one."""
    logger.warning(
        "The history does not answer; trying again in %.2f s",
        delay,
        exc_info=not isinstance(error, HistoryError),
    )
    await asyncio.sleep(delay)
    return min(delay * 2, MAX_BACKOFF)


class Heal(Enum):
    """Whether a follower is being healed."""

    NO = "no"
    YES = "yes"
    AGAIN = "again"


class Follower:
    """One topic in one process.

    `position` is None until `start` has set it; `ready` is set then. All methods are called in the
    hub's event loop; `spawn` is the hub's way to run a task that it owns, `fan_out` takes what
    was heard to the streams, `counters` is what it counts in.
    """

    def __init__(
        self,
        topic: str,
        *,
        history: BaseHistory,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        fan_out: Gatherer,
        counters: Counters,
    ) -> None:
        self.topic = topic
        self.position: Position | None = None
        self.ready = asyncio.Event()
        #: Insertion order: nothing here iterates a set, so that one seed gives one run.
        self.streams: dict[Following, None] = {}
        self._history = history
        self._spawn = spawn
        self._fan_out = fan_out
        self._counters = counters
        #: Heard, and not offered yet.
        self._batch: list[Entry] = []
        self._batch_size = 0
        #: On its way, and to whom still.
        self._passing: tuple[Batch, Iterator[Following]] | None = None
        self._early: dict[int, Entry] = {}
        #: Tags that were announced without their entries.
        self._named: dict[int, None] = {}
        self._recent: dict[int, None] = {}
        self._heal = Heal.NO
        #: Nothing but gaps was a cause to heal since the last read.
        self._is_gap = False

    async def start(self) -> None:
        """Take the topic's tail as position; the group was joined before, so nothing falls between."""
        delay = GRACE
        while self.position is None:
            try:
                self.position = (await self._history.atail([self.topic]))[self.topic]
            except Exception as error:  # noqa: BLE001  (back_off logs it)
                # Also what no history should raise: a follower that never starts keeps its streams waiting.
                delay = await back_off(error, delay)
        self._recent[self.position.tag] = None
        asked, self._heal = self._asked_again(), Heal.NO
        crowded = len(self._early) == _MAX_EARLY  # more may have come than were kept
        self._advance_early()
        if self._early or crowded or asked:
            self.heal()
        self.ready.set()

    def hear(self, entry: Entry) -> None:
        """Take an announced entry, in whatever order it comes."""
        if self.position is None:
            self._keep(entry)
        elif entry.follows(self.position):
            self._advance(entry)
            self._advance_early()
        elif entry.tag in self._recent:
            pass
        else:
            is_early = entry.offset > self.position.offset
            kept = is_early and self._keep(entry)
            self.heal(gap=kept and entry.offset > self.position.offset + 1)

    def hear_position(self, position: Position) -> None:
        """Take an announced position, whose entry was too large to come along."""
        if position.tag not in self._recent:
            if len(self._named) < _MAX_EARLY:
                self._named[position.tag] = None
            self.heal()

    def check(self, tail: Position) -> bool:
        """Compare with the history's tail; heal, and return False, where it is another.

        An older one counts too: the newest may have been rolled back.
        """
        if self.position is None or tail == self.position:
            return True
        self.heal()
        return False

    def heal(self, *, gap: bool = False) -> None:
        """Read the history in a moment, unless that is under way.

        Where there is no cause but a gap, it is not read if the gap is filled in that moment.
        """
        if self.position is None:
            self._heal = Heal.AGAIN  # the tail that `start` waits for may be older than this asking
        elif self._heal is Heal.NO:
            self._heal, self._is_gap = Heal.YES, gap
            self._spawn(self._healing())
        else:
            self._heal, self._is_gap = Heal.AGAIN, self._is_gap and gap

    async def _healing(self) -> None:
        pause = delay = GRACE
        while self._heal is not Heal.NO:
            await asyncio.sleep(pause)
            if self._is_gap and not self._early:
                self._heal = Heal.NO
                break
            self._heal, self._is_gap = Heal.YES, True
            self._counters.heals += 1
            try:
                more = await self._read()
            except Exception as error:  # noqa: BLE001  (back_off logs it)
                # Also what no history should raise: a follower that stops healing would be deaf.
                self._is_gap = False
                pause, delay = 0.0, await back_off(error, delay)
                continue
            self._is_gap &= not more
            pause, delay = 0.0 if more else GRACE, GRACE
            # No await between this look and the end: whoever asks later starts a new healing.
            if not more and not self._asked_again():
                self._heal = Heal.NO
        for stream in list(self.streams):
            stream.healed()

    def _asked_again(self) -> bool:
        return self._heal is Heal.AGAIN

    async def _read(self) -> bool:
        """Read once; tell whether there is more to read at once."""
        asked = self.position
        if asked is None:
            return False
        page = await self._history.read(self.topic, asked, limit=READ_LIMIT)
        if self.position != asked:
            # Entries came while reading: this page is no longer the next one.
            self._heal, self._is_gap = Heal.AGAIN, False
            return False
        if isinstance(page, Gone):
            self.position = page.tail
            # What was rolled back is offered to nobody (any more).
            self._batch, self._batch_size, self._passing = [], 0, None
            self._early.clear()
            self._named.clear()
            self._recent = {page.tail.tag: None}
            for stream in list(self.streams):
                stream.suspect(self.topic)
            return False
        for entry in page.entries:
            if entry.tag not in self._named and self._early.get(entry.offset) != entry:
                self._counters.missed += 1
            self._advance(entry)
        self._advance_early()
        if not page.more:
            # What is still early was announced, but does not stand in the history (any more).
            self._early.clear()
            self._named.clear()
        return page.more

    def _advance(self, entry: Entry) -> None:
        self.position = entry.position
        self._counters.entries += 1
        self._recent[entry.tag] = None
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        if self._batch_size + len(entry.frame) > _MAX_BATCH:
            self._fan_out.settle()
        self._batch.append(entry)
        self._batch_size += len(entry.frame)
        if len(self._batch) == 1:
            self._fan_out.gather(self)

    def pass_on(self, limit: int) -> int:
        """Let so many streams write what was heard at once; return how many did, fewer at the end."""
        self._begin()
        return self._offer(limit, at_once=True)

    def finish(self) -> None:
        """Let the other streams queue what is on its way to them."""
        self._offer(None, at_once=False)

    def flush(self) -> None:
        """Let all streams queue what was heard since the last time."""
        self.finish()
        self._begin()
        self.finish()

    def _begin(self) -> None:
        if self._passing is None and self._batch:
            self._passing = Batch(self._batch), iter(list(self.streams))
            self._batch, self._batch_size = [], 0

    def _offer(self, limit: int | None, *, at_once: bool) -> int:
        if self._passing is None:
            return 0
        batch, streams = self._passing
        count = 0
        for stream in islice(streams, limit):
            count += 1
            try:
                stream.offer(self.topic, batch, at_once=at_once)
            except Exception:
                # One stream's fault must not keep the others, nor the publisher, from these entries.
                logger.exception("A stream failed to take an entry")
        if limit is None or count < limit:
            self._passing = None
        return count

    def _advance_early(self) -> None:
        while self._early and self.position is not None:
            entry = self._early.pop(self.position.offset + 1, None)
            if entry is None:
                break
            if not entry.follows(self.position):
                self.heal()
                break
            self._advance(entry)
        if self._early and self.position is not None:
            for offset in [offset for offset in self._early if offset <= self.position.offset]:
                if self._early.pop(offset).tag not in self._recent:
                    self.heal()

    def _keep(self, entry: Entry) -> bool:
        if len(self._early) < _MAX_EARLY:
            self._early[entry.offset] = entry
            return True
        return False
