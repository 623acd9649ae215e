"""The contract of every history.

A history keeps the recent entries of each topic, and is the truth: whatever a process heard by
other ways counts only where it follows from what the history gave. Where ``name`` and ``aname``
both stand, the first is for plain code, the second for coroutines. Every call raises HistoryError
where the store cannot be reached in time.
"""

import logging
import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from django_sse.positions import TAG_BITS, Entry, Position
from django_sse.wire import Event

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The entries after a position, oldest first; ``more`` where the limit cut them."""

    entries: tuple[Entry, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """That very entry is not there: trimmed, flushed, rolled back or restored.

    The topic's newest position is given, to go on from after a reset.
    """

    tail: Position


def draw_tag() -> int:
    """Return the random tag of a new entry."""
    return secrets.randbits(TAG_BITS)


def check_limits(**limits: float) -> None:
    """Raise ValueError for an option of a history that is not above 0."""
    for name, limit in limits.items():
        if not limit > 0:
            msg = f"{name} is {limit!r}: it must be above 0"
            raise ValueError(msg)


def chain(position: Position, entries: Iterable[Entry | None], *, tail: Position, more: bool) -> Page | Gone:
    """Return what comes after a position, as far as each entry follows the one before it; None is damage."""
    sound: list[Entry] = []
    for entry in entries:
        if entry is None or not entry.follows(position):
            if entry is not None:
                logger.error("An entry of topic %r does not follow the one before it", entry.topic)
            # What stands before the damage is good; reading on from there is answered by Gone.
            return Page(entries=tuple(sound), more=True) if sound else Gone(tail=tail)
        sound.append(entry)
        position = entry.position
    return Page(entries=tuple(sound), more=more)


class BaseOutbox(Protocol):
    """Events that are written in their sender's transaction, and appended after its commit, exactly once."""

    #: The database whose transactions they are written in.
    using: str

    def store(
        self,
        topics: Sequence[str],
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Sequence[int]:
        """Write an event in the transaction of the caller, and return the numbers of its rows."""

    def discard(self, numbers: Sequence[int]) -> None:
        """Remove rows in the transaction of the caller, because a later event stands for theirs."""

    def deliver(self, numbers: Sequence[int]) -> Sequence[Entry]:
        """Append an event whose transaction is committed, as far as nobody did; return what was appended."""

    def sweep(self) -> Sequence[Entry]:
        """Append what was left when its processes died; return what was appended."""


class BaseHistory(ABC):
    """Recent entries by topic; a topic that is asked for exists from then on."""

    #: Whether other processes read what this one appends.
    shared: ClassVar[bool]
    #: Seconds between two tail checks at most, where nothing but them tells what other processes append.
    check_every: float = math.inf
    #: Where events can be written in a transaction of the same store.
    outbox: BaseOutbox | None = None

    @abstractmethod
    async def aappend(
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        """Append an event and return its entry.

        A known ``idempotency_key`` appends nothing and returns the entry that it made, None where that one
        is trimmed already. Where the topic has seen a
        version of ``key`` that is not lower than ``version``, nothing is stored and None returned.
        """

    @abstractmethod
    def append(
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        """Do what `aappend` does."""

    @abstractmethod
    async def read(self, topic: str, position: Position, *, limit: int) -> Page | Gone:
        """Return at most ``limit`` entries after a position, or Gone where its entry is not there."""

    @abstractmethod
    async def atail(self, topics: Collection[str]) -> dict[str, Position]:
        """Return the newest position of each topic, in one round trip."""

    @abstractmethod
    def tail(self, topics: Collection[str]) -> dict[str, Position]:
        """Do what `atail` does."""

    @abstractmethod
    async def aat(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:
        """Return the positions as they stood ``ago`` seconds before now, by the store's clock.

        Where older entries are trimmed, the position is that of a trimmed one: resuming from it is
        answered by Gone, so that the loss is loud.
        """

    @abstractmethod
    def at(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:
        """Do what `aat` does."""

    @abstractmethod
    async def anext_version(self) -> int:
        """Return a number above all that were returned before: at least the store's clock in microseconds."""

    @abstractmethod
    def next_version(self) -> int:
        """Do what `anext_version` does."""

    def trim(self) -> int:
        """Remove a bounded part of what is no longer promised; return how much, 0 where appends do it."""
        return 0

    async def tend(self, hear: Callable[[str, Position], None]) -> None:  # noqa: B027  (most need nothing)
        """Do what a store needs beside its calls, for good; each hub runs it.

        It tells of topics' new positions where the store announces them, and removes what is no longer
        promised where appends do not.
        """
