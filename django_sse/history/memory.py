"""The history in this process's memory.

It serves one process: others neither read nor write it, and it ends with the process. Its callers
may be in any thread; nothing awaits while the lock is held.
"""

import sys
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import blake2b
from secrets import token_bytes
from threading import Lock
from typing import ClassVar, Final
from zlib import crc32

from django_sse.history.base import BaseHistory, Gone, Page, check_limits, draw_tag
from django_sse.positions import TAG_BITS, Entry, Position
from django_sse.wire import Event

# What an entry costs beside its text and its encoded copy, in bytes: measured with tracemalloc on 3.11.
_OVERHEAD: Final = 450
_GENERATIONS: Final = 1024


def _size(entry: Entry) -> int:
    return _OVERHEAD + sys.getsizeof(entry.event.text) + len(entry.frame)


@dataclass(slots=True)
class _Log:
    """One topic: its genesis or entries, whose offsets are consecutive, and what stands beside them."""

    #: The position before the oldest entry.
    before: Position
    #: By offset: reading from anywhere and dropping the oldest cost nothing extra.
    entries: dict[int, Entry] = field(default_factory=dict)
    size: int = 0
    #: Oldest first: when each key was last written, and its version or its entry's offset.
    versions: OrderedDict[str, tuple[float, int]] = field(default_factory=OrderedDict)
    made: OrderedDict[str, tuple[float, int]] = field(default_factory=OrderedDict)
    #: Whether `before` still stands in the history: true for a genesis that nothing was trimmed after.
    whole: bool = True

    @property
    def tail(self) -> Position:
        return self.newest.position if self.entries else self.before

    @property
    def newest(self) -> Entry:
        return self.entries[self.before.offset + len(self.entries)]

    @property
    def oldest(self) -> Entry:
        return self.entries[self.before.offset + 1]

    def drop_oldest(self) -> int:
        entry = self.entries.pop(self.before.offset + 1)
        self.before, self.whole = entry.position, False
        size = _size(entry)
        self.size -= size
        return size


class MemoryHistory(BaseHistory):
    """Entries in memory, limited by number, age and bytes.

    ``length`` entries and ``age`` seconds bound each topic, whose newest entry outlives both;
    ``key_age`` seconds (and ``length`` keys) bound what is remembered of versions and idempotency
    keys; ``topics`` bounds the number of topics, of which the least recently used goes first; and
    ``size`` bytes bound all together: the largest topic then loses its older half, and where each has one
    entry only, the least recently used topic goes.
    """

    shared: ClassVar[bool] = False

    def __init__(
        self,
        *,
        length: int = 10_000,
        age: float = 86_400.0,
        key_age: float = 86_400.0,
        topics: int = 10_000,
        size: int = 256 * 1024 * 1024,
    ) -> None:
        check_limits(length=length, age=age, key_age=key_age, topics=topics, size=size)
        self._length = length
        self._age = age
        self._key_age = key_age
        self._max_topics = topics
        self._max_size = size
        self._lock = Lock()
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._size = 0
        self._version = 0
        self._secret = token_bytes(16)
        self._generations = [0] * _GENERATIONS

    def append(
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        """Append an event and return its entry, or None where its version is stale."""
        with self._lock:
            now = time.time()
            log = self._keep(topic)
            if log.entries:
                now = max(now, log.newest.time)  # a clock that was set back must not disorder `at`
            if idempotency_key is not None and (made := log.made.get(idempotency_key)) is not None:
                return log.entries.get(made[1])  # what was trimmed must not live on beside the log
            if key is not None and version is not None:
                if (known := log.versions.get(key)) is not None and known[1] >= version:
                    return None
                self._remember(log.versions, key, (now, version))
            # By age before the append: the entry that everybody stands at in a quiet topic must stay.
            while len(log.entries) > 1 and log.oldest.time < now - self._age:
                self._size -= log.drop_oldest()
            tail = log.tail
            entry = Entry(
                topic=topic, offset=tail.offset + 1, tag=draw_tag(), previous=tail.tag, time=now, event=event
            )
            if idempotency_key is not None:
                self._remember(log.made, idempotency_key, (now, entry.offset))
            log.entries[entry.offset] = entry
            size = _size(entry)
            log.size += size
            self._size += size
            self._trim(log)
            return entry

    async def aappend(  # noqa: D102
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        return self.append(topic, event, idempotency_key=idempotency_key, key=key, version=version)

    async def read(self, topic: str, position: Position, *, limit: int) -> Page | Gone:
        """Return at most ``limit`` entries after a position, or Gone."""
        with self._lock:
            log = self._log(topic)
            entry = log.entries.get(position.offset)
            known = log.before if log.whole and entry is None else entry and entry.position
            if position != known:
                return Gone(tail=log.tail)
            first, last = position.offset + 1, min(position.offset + limit, log.tail.offset)
            entries = tuple(log.entries[offset] for offset in range(first, last + 1))
            return Page(entries=entries, more=last < log.tail.offset)

    def tail(self, topics: Collection[str]) -> dict[str, Position]:
        """Return the newest position of each topic."""
        with self._lock:
            return {topic: self._log(topic).tail for topic in topics}

    async def atail(self, topics: Collection[str]) -> dict[str, Position]:  # noqa: D102
        return self.tail(topics)

    def at(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:
        """Return the positions as they stood ``ago`` seconds before now."""
        with self._lock:
            then = time.time() - ago
            return {topic: self._at(self._log(topic), then) for topic in topics}

    async def aat(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:  # noqa: D102
        return self.at(topics, ago=ago)

    def next_version(self) -> int:
        """Return a number above all that were returned before."""
        with self._lock:
            self._version = max(self._version + 1, time.time_ns() // 1000)
            return self._version

    async def anext_version(self) -> int:  # noqa: D102
        return self.next_version()

    def clear(self) -> None:
        """Forget everything, as a new process would: every client is told by a reset."""
        with self._lock:
            self._logs.clear()
            self._size = 0
            self._secret = token_bytes(16)

    def _log(self, topic: str) -> _Log:
        log = self._logs.get(topic)
        if log is None:
            # Made anew each time, so that asking for a topic costs no memory and pushes out no other.
            return _Log(before=Position(offset=0, tag=self._genesis(topic)))
        self._logs.move_to_end(topic)
        return log

    def _keep(self, topic: str) -> _Log:
        log = self._logs[topic] = self._log(topic)
        while len(self._logs) > self._max_topics:
            self._drop_topic()
        return log

    def _genesis(self, topic: str) -> int:
        """Return the tag of a topic without entries: secret, and the same until such a topic is dropped."""
        name = topic.encode()
        generation = self._generations[crc32(name) % _GENERATIONS]
        digest = blake2b(b"%d %s" % (generation, name), key=self._secret, digest_size=TAG_BITS // 8)
        return int.from_bytes(digest.digest())

    def _drop_topic(self) -> None:
        topic, log = self._logs.popitem(last=False)
        self._size -= log.size
        # Who stood at its genesis has missed entries, and must be told. The few other topics without
        # entries that share its number are reset with it: loud, and bounded in memory.
        self._generations[crc32(topic.encode()) % _GENERATIONS] += 1

    @staticmethod
    def _at(log: _Log, then: float) -> Position:
        offsets = range(log.before.offset + 1, log.tail.offset + 1)
        count = bisect_right(offsets, then, key=lambda offset: log.entries[offset].time)
        return log.entries[offsets[count - 1]].position if count else log.before

    def _remember(
        self, known: OrderedDict[str, tuple[float, int]], key: str, value: tuple[float, int]
    ) -> None:
        known[key] = value
        known.move_to_end(key)
        while len(known) > self._length or next(iter(known.values()))[0] < value[0] - self._key_age:
            known.popitem(last=False)

    def _trim(self, log: _Log) -> None:
        while len(log.entries) > self._length:
            self._size -= log.drop_oldest()
        while self._size > self._max_size:
            # Halves, so that finding the largest of many topics is rare.
            shrinkable = (log for log in self._logs.values() if len(log.entries) > 1)
            largest = max(shrinkable, key=lambda log: log.size, default=None)
            if largest is not None:
                for _ in range(len(largest.entries) // 2):
                    self._size -= largest.drop_oldest()
            elif len(self._logs) > 1:
                self._drop_topic()
            else:
                break
