"""Revocations: access that has ended, told to every process.

They are events of one reserved topic, the control topic, and so have the guarantees of any event: what the
layer loses is found by the next tail check. Each hub follows it from before its first stream on.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

from django_sse.open_streams import OpenStreams, Served
from django_sse.positions import Batch
from django_sse.visitors import Visitor
from django_sse.wire import Event

logger = logging.getLogger(__name__)

_NAME: Final = "revoke"
#: Users and sessions that a hub remembers, for streams that attach while a revocation is on its way.
_REMEMBERED: Final = 10_000


def digest_of(session_key: str) -> str:
    """Return what a session is named by where others may read it."""
    return blake2b(session_key.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A user whose streams must end and be asked for again, by the user's topic.

    ``session`` is the digest of one that has ended with it: what still comes with that is late.
    """

    user: str
    session: str | None = None

    def event(self) -> Event:
        """Return what tells it."""
        data = {"user": self.user, "session": self.session}
        return Event(name=_NAME, text=json.dumps(data, separators=(",", ":")))

    @classmethod
    def of(cls, event: Event) -> Self:
        """Return what an event tells; raise ValueError where it is none of ours."""
        match json.loads(event.text):
            case {"user": str(user), "session": str(session) | (None as session)} if event.name == _NAME:
                return cls(user=user, session=session)
        msg = f"an event {event.name!r} of the control topic is malformed"
        raise ValueError(msg)


class Revocations:
    """What a hub has heard on the control topic: it follows that, and ends streams."""

    def __init__(self, streams: OpenStreams) -> None:
        self._streams = streams
        #: When each was heard last, by the monotonic clock; the oldest first.
        self._users: dict[str, float] = {}
        self._sessions: dict[str, None] = {}
        #: What was heard until then is no longer known.
        self._forgotten = 0.0

    def covers(self, visitor: Visitor) -> bool:
        """Tell whether a visitor's access may have ended since their request began.

        What was revoked before that was done when the session and the rules were read; what was not heard
        yet will end the stream when it is.
        """
        if visitor.began <= max(self._forgotten, self._users.get(visitor.user, 0.0)):
            return True
        return visitor.session_key is not None and digest_of(visitor.session_key) in self._sessions

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:  # noqa: ARG002
        """End the streams of those whose access was revoked; remember them."""
        for entry in batch.entries:
            try:
                self._take(Revocation.of(entry.event))
            except ValueError:
                # A later version of this package may tell more; what we cannot read asks nothing of us.
                logger.warning("Skipped an event of the control topic")

    def suspect(self, topic: str) -> None:  # noqa: ARG002
        """Ask everybody again: the history has lost what may have been revoked."""
        self._forgotten = time.monotonic()
        self._streams.end(self._streams, "recheck", drop=True)

    def healed(self) -> None:
        """Do nothing: nothing waits."""

    def _take(self, revocation: Revocation) -> None:
        self._users.pop(revocation.user, None)
        self._users[revocation.user] = time.monotonic()
        if revocation.session is not None:
            self._sessions[revocation.session] = None
        if len(self._users) > _REMEMBERED:
            self._forgotten = self._users.pop(next(iter(self._users)))
        if len(self._sessions) > _REMEMBERED:
            del self._sessions[next(iter(self._sessions))]
        self._streams.end(self._of(revocation.user), "revoked", drop=True)

    def _of(self, user: str) -> Iterator[Served]:
        return (stream for stream in self._streams if stream.user == user)
