"""What a stream knows about one topic, and what it queues about it."""

from dataclasses import dataclass
from typing import Self

from django_sse.followers import Follower
from django_sse.positions import Position, encode_segment


@dataclass(slots=True, eq=False)
class Place:
    """A stream's place in one topic."""

    topic: str
    follower: Follower
    #: What is queued, and what has left.
    queued: Position
    sent: Position
    #: The part of the cursor that may be claimed; empty while a first state is owed, so that a client
    #: which is cut off before it is asked for again.
    segment: bytes
    live: bool
    owes_state: bool = False
    #: The history showed nothing more, and yet the follower is elsewhere: wait for it to move.
    waits: bool = False
    #: The follower's position when the last read began.
    seen: Position | None = None

    @classmethod
    def begin(cls, follower: Follower, start: Position, *, live: bool, owes_state: bool) -> Self:
        """Begin behind a position."""
        return cls(
            topic=follower.topic,
            follower=follower,
            queued=start,
            sent=start,
            segment=b"" if owes_state else encode_segment(follower.topic, start),
            live=live and not owes_state,
            owes_state=owes_state,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Reset:
    """A topic goes on from its tail: what was between is gone."""

    place: Place
    position: Position
    segment: bytes
    block: bytes


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The first state of topics, without ids."""

    places: tuple[Place, ...]
    data: bytes
