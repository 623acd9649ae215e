"""What one hub has counted since it was made."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """What followers and streams count, each kind of trouble where it is met."""

    #: How often a follower read the history, because something did not follow.
    heals: int = 0
    #: Entries that the history showed before any doorbell had announced them: it was lost, or late.
    missed: int = 0
    #: How often a stream dropped its queue, because its client was slow.
    spills: int = 0
    #: Resets that were sent, by their reason: ``history`` or ``cursor``.
    resets: Counter[str] = field(default_factory=Counter)
    #: Streams that were turned away, because too many were open.
    refusals: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A hub at one moment; see `Counters` for what is counted."""

    streams: int
    followers: int
    heals: int
    missed: int
    spills: int
    resets: Mapping[str, int]
    refusals: int
    #: Doorbells of this process that the layer did not take.
    unsent: int
    #: Seconds since the last tail check that worked; None before the first.
    staleness: float | None
