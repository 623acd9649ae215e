"""Places in a topic's history.

A position names one entry by its offset and its tag; the tag is 40 random bits drawn when the entry
is made, so a history that was flushed, rolled back or restored is never taken for the one a client
has seen. A cursor is the positions of a stream's topics. It travels as the SSE id:

    cursor  = "1" *( "~" segment )
    segment = topic-hash "." offset "." tag      ; 8 base64url, decimal, 10 hexadecimal characters

Every character is unreserved in a URL, and a cursor of 32 topics stays under 4 kB, which servers
accept in a header.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Self

from django_sse.exceptions import CursorError
from django_sse.wire import Event

TAG_BITS = 40
MAX_TAG = 2**TAG_BITS - 1
#: The largest offset: JavaScript compares offsets as numbers.
MAX_OFFSET = 2**53 - 1
MAX_CURSOR = 4096
#: Bytes of one segment at most, its separator included.
MAX_SEGMENT = 37
#: Topics whose cursor always fits.
MAX_CURSOR_TOPICS = (MAX_CURSOR - 1) // MAX_SEGMENT

_VERSION = "1"
_BEFORE_SEGMENT = len(b"id: 1")
_SEGMENT = re.compile(r"([A-Za-z0-9_-]{8})\.(0|[1-9][0-9]{0,15})\.([0-9a-f]{10})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One entry's place: its offset, and the tag that proves which entry is meant."""

    offset: int
    tag: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event in a topic's history."""

    topic: str
    offset: int
    tag: int
    #: The tag of the entry before this one.
    previous: int
    #: Seconds since the epoch, by the history's clock.
    time: float
    event: Event
    position: Position = field(init=False, repr=False, compare=False)
    #: This entry's part of a cursor, shared by all streams.
    segment: bytes = field(init=False, repr=False, compare=False)
    #: The whole block for a stream of this topic alone, shared by all such streams: the one encoded copy.
    frame: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        position = Position(offset=self.offset, tag=self.tag)
        segment = encode_segment(self.topic, position)
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "segment", segment)
        object.__setattr__(self, "frame", frame((segment,), self.event.block))

    def follows(self, position: Position) -> bool:
        """Tell whether this entry is the very next one after a position."""
        return self.offset == position.offset + 1 and self.previous == position.tag


class Batch:
    """Entries of one topic, no gap between them that matters, that leave together to all its streams."""

    __slots__ = ("_pieces", "_wordings", "count", "entries", "frames", "position", "segment", "topic")

    def __init__(self, entries: Sequence[Entry]) -> None:
        last = entries[-1]
        self.entries = entries
        self.count = len(entries)
        self.topic = last.topic
        #: Where a stream is that has them, and its part of a cursor.
        self.position = last.position
        self.segment = last.segment
        #: The whole blocks for a stream of this topic alone.
        self.frames = last.frame if self.count == 1 else b"".join([entry.frame for entry in entries])
        self._pieces: list[bytes] | None = None
        self._wordings: dict[Callable[[Entry], Entry], Batch] | None = None

    def frames_beside(self, others: bytes) -> bytes:
        """Return the whole blocks beside other topics, whose parts of the cursor are given."""
        if self._pieces is None:
            ends = [_BEFORE_SEGMENT + len(entry.segment) for entry in self.entries]
            heads = [entry.frame[:end] for entry, end in zip(self.entries, ends, strict=True)]
            rests = [entry.frame[end:] for entry, end in zip(self.entries, ends, strict=True)]
            between = [rest + head for rest, head in zip(rests, heads[1:], strict=False)]
            self._pieces = [heads[0], *between, rests[-1]]
        return others.join(self._pieces)

    def worded(self, word: Callable[[Entry], Entry]) -> "Batch":
        """Return the batch of these entries in other words, made once for all streams that want those."""
        if self._wordings is None:
            self._wordings = {}
        if word not in self._wordings:
            self._wordings[word] = Batch([word(entry) for entry in self.entries])
        return self._wordings[word]


@lru_cache(maxsize=4096)
def topic_hash(topic: str) -> str:
    """Return the short name of a topic in cursors: 48 bits, which a stream's few topics share safely."""
    return urlsafe_b64encode(blake2b(topic.encode(), digest_size=6).digest()).decode("ascii")


def encode_segment(topic: str, position: Position) -> bytes:
    """Return one topic's part of a cursor, its separator included."""
    return b"~%s.%d.%010x" % (topic_hash(topic).encode("ascii"), position.offset, position.tag)


def frame(segments: Iterable[bytes], block: bytes) -> bytes:
    """Return a whole block that carries the cursor of these segments as its id."""
    return b"id: 1%s\n%s\n" % (b"".join(segments), block)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Positions by the short names of their topics."""

    positions: Mapping[str, Position]

    @classmethod
    def of(cls, positions: Mapping[str, Position]) -> Self:
        """Make the cursor of positions that are named by their topics."""
        return cls(positions={topic_hash(topic): position for topic, position in positions.items()})

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a cursor; raise CursorError for anything that `encode` would not have written."""
        if len(text) > MAX_CURSOR:
            msg = f"a cursor of {len(text)} characters is longer than {MAX_CURSOR}"
            raise CursorError(msg)
        version, *segments = text.split("~")
        if version != _VERSION:
            msg = f"cursor {text[:40]!r} has no known version"
            raise CursorError(msg)
        positions: dict[str, Position] = {}
        for segment in segments:
            match = _SEGMENT.fullmatch(segment)
            if match is None or match[1] in positions or int(match[2]) > MAX_OFFSET:
                msg = f"cursor segment {segment[:40]!r} is malformed or stands twice"
                raise CursorError(msg)
            positions[match[1]] = Position(offset=int(match[2]), tag=int(match[3], 16))
        return cls(positions=positions)

    def get(self, topic: str) -> Position | None:
        """Return the position of a topic, None where the cursor does not have it."""
        return self.positions.get(topic_hash(topic))

    def encode(self) -> str:
        """Return the text that `parse` reads."""
        return _VERSION + "".join(f"~{name}.{p.offset}.{p.tag:010x}" for name, p in self.positions.items())
