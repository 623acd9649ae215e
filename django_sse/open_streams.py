"""The open streams of one event loop: whose they are, how many may be, and how they are all ended."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from django_sse.conf import Settings
from django_sse.fan_out import Flushed
from django_sse.visitors import Visitor

#: Streams a second that come back after all were ended at once: what a process can take beside its pages.
_RETURNS: Final = 500


class Served(Flushed, Protocol):
    """What a hub serves: any stream."""

    @property
    def visitor(self) -> Visitor | None:
        """Whose it is."""

    @property
    def user(self) -> str | None:
        """The topic of whose it is."""

    @property
    def is_gone(self) -> bool:
        """Whether its response is complete, or its client gone."""

    def beat(self, now: float) -> None:
        """Write a heartbeat where it was silent; end where its time is over."""

    def end(self, reason: str, *, retry: float | None = None, drop: bool = False) -> None:
        """End politely; let it come back after so many seconds, and first drop what it has not written."""

    def abort(self) -> None:
        """End at once, whatever is on its way."""


class OpenStreams:
    """The streams that a hub serves, in the order in which they came."""

    def __init__(self, settings: Settings) -> None:
        #: How many streams each user has.
        self.users: Counter[str] = Counter()
        #: No more are served: the process is about to stop.
        self.closed = False
        self._settings = settings
        self._streams: dict[Served, None] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._streams)

    def __iter__(self) -> Iterator[Served]:
        """Give those that there are now; others may come and go meanwhile."""
        return iter(list(self._streams))

    def __contains__(self, stream: object) -> bool:
        """Tell whether a stream is open."""
        return stream in self._streams

    def add(self, stream: Served) -> None:
        """Count a stream in."""
        self._streams[stream] = None
        if stream.user is not None:
            self.users[stream.user] += 1

    def discard(self, stream: Served) -> None:
        """Count a stream out, if it was in."""
        if stream in self._streams:
            del self._streams[stream]
            if stream.user is not None:
                self.users[stream.user] -= 1
                if not self.users[stream.user]:
                    del self.users[stream.user]

    def refusal(self, user: str | None) -> str | None:
        """Return why one more stream, which is this user's, cannot be served; None where it can."""
        limit, share = self._settings.MAX_STREAMS, self._settings.MAX_STREAMS_PER_USER
        if self.closed:
            return "shutdown"
        is_full = (limit is not None and len(self) >= limit) or (
            share is not None and user is not None and self.users[user] >= share
        )
        return "limit" if is_full else None

    def end(self, streams: Iterable[Served], reason: str, *, drop: bool = False) -> None:
        """End many streams at once, which come back one after the other."""
        streams, retry = list(streams), self._settings.RETRY
        spread = max(retry, len(streams) / _RETURNS)
        for stream in streams:
            stream.end(reason, retry=retry + random.uniform(0, spread), drop=drop)  # noqa: S311  (no secret)
