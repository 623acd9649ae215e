"""What one hub has counted since it was made, and what a process has that sends."""

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, Literal

from django_sse.forks import after_fork

#: The latest ends and resets that are kept with their circumstances.
_INCIDENTS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The end of a stream by the server, or a reset, and of what."""

    #: Seconds since the epoch.
    time: float
    kind: Literal["end", "reset"]
    reason: str
    #: The topic of the user whose stream it is; None for visitors.
    user: str | None
    topics: Sequence[str]


@dataclass(slots=True)
class Counters:
    """What followers and streams count, each kind of trouble where it is met."""

    #: Streams that were opened, those that were turned away among them.
    opened: int = 0
    #: Streams that the server ended, by their reason; the others' clients went away.
    ends: Counter[str] = field(default_factory=Counter)
    #: Entries that followers took, each once however many streams follow.
    entries: int = 0
    #: How often a follower read the history, because something did not follow.
    heals: int = 0
    #: Entries that the history showed before any doorbell had announced them: it was lost, or late.
    missed: int = 0
    #: How often a stream dropped its queue, because its client was slow.
    spills: int = 0
    #: Resets that were sent, by their reason: ``history`` or ``cursor``.
    resets: Counter[str] = field(default_factory=Counter)
    #: Streams that were turned away, because too many were open or the process was about to stop.
    refusals: int = 0
    #: The latest ends and resets, the oldest first.
    incidents: deque[Incident] = field(default_factory=lambda: deque(maxlen=_INCIDENTS))

    def note_end(self, reason: str, *, user: str | None, topics: Sequence[str]) -> None:
        """Count a stream that the server ends."""
        self.ends[reason] += 1
        self._note("end", reason, user, topics)

    def note_reset(self, reason: str, *, user: str | None, topics: Sequence[str]) -> None:
        """Count a reset."""
        self.resets[reason] += 1
        self._note("reset", reason, user, topics)

    def _note(
        self, kind: Literal["end", "reset"], reason: str, user: str | None, topics: Sequence[str]
    ) -> None:
        self.incidents.append(Incident(time=time.time(), kind=kind, reason=reason, user=user, topics=topics))


class PublishCounters:
    """What went wrong in a process that sends, in whichever thread, where it was logged and not raised."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as a forked process must: another thread may have held the lock."""
        self._lock = Lock()
        #: Model events without a version: none could be drawn, or the row could not be locked.
        self.unversioned = 0
        #: Events that were not sent: by a history that did not answer, or a project's own error.
        self.failed = 0

    def note_unversioned(self) -> None:
        """Count an event that may overtake another."""
        with self._lock:
            self.unversioned += 1

    def note_failed(self) -> None:
        """Count an event that nobody hears."""
        with self._lock:
            self.failed += 1


#: This process's.
published: Final = PublishCounters()
after_fork(published.reset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A hub at one moment; see `Counters` and, of its process, `PublishCounters` for what is counted."""

    streams: int
    followers: int
    opened: int
    ends: Mapping[str, int]
    entries: int
    heals: int
    missed: int
    spills: int
    resets: Mapping[str, int]
    refusals: int
    #: Doorbells of this process that the layer did not take.
    unsent: int
    unversioned: int
    failed: int
    #: Seconds since the last tail check that worked; None before the first.
    staleness: float | None
