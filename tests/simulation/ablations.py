"""The product with one safeguard taken out, each by a subclass: what the checker must notice."""

from collections.abc import Collection, Iterable
from typing import Any

from django_sse.followers import Follower
from django_sse.history import Gone, Page
from django_sse.hub import Hub
from django_sse.positions import Batch, Entry, Position, encode_segment
from django_sse.streams import Stream
from django_sse.streams.places import Place
from django_sse.wire import Event
from tests.simulation.history import WorldHistory


class UntaggedHistory(WorldHistory):
    """Accepts a position by its offset alone."""

    async def read(self, topic: str, position: Position, *, limit: int) -> Page | Gone:
        """Read after whichever entry has this offset."""
        entry = self._log(topic).entries.get(position.offset)
        return await super().read(topic, entry.position if entry else position, limit=limit)


class NoGenesisHistory(WorldHistory):
    """Makes no genesis entry when it is asked for a tail: a topic without entries stands nowhere."""

    def tail(self, topics: Collection[str]) -> dict[str, Position]:
        """Return positions of which nothing remains where a topic has no entries."""
        tails = super().tail(topics)
        for topic in topics:
            if topic not in self._logs:
                tails[topic] = Position(offset=0, tag=self._random.getrandbits(40))
                self.truth.begin(topic, tails[topic])
        return tails


class UntaggedGenesisHistory(WorldHistory):
    """Begins each topic at the same position, whenever it begins again."""

    def _genesis(self, topic: str) -> int:
        return 0


class ForgetfulHistory(WorldHistory):
    """Knows no idempotency keys."""

    def append(self, topic: str, event: Event, **options: Any) -> Entry | None:
        """Append whatever comes."""
        return super().append(topic, event)


class TrustingFollower(Follower):
    """Takes what the layer says for what comes next, unless it is old."""

    def hear(self, entry: Entry) -> None:
        """Advance over gaps and into other pasts."""
        if self.position is None:
            self._keep(entry)
        elif entry.offset > self.position.offset:
            self._advance(entry)


class TrustingStream(Stream):
    """Takes what its follower offers for what comes next."""

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Queue without looking."""
        place, first = self._places.get(topic), batch.entries[0]
        if place is not None and place.live and first.offset > place.queued.offset:
            place.queued = Position(offset=first.offset - 1, tag=first.previous)
        super().offer(topic, batch, at_once=at_once)


class DeafFollower(Follower):
    """Never asks the history."""

    def heal(self, *, gap: bool = False) -> None:
        """Do nothing."""


class UncheckedFollower(Follower):
    """Never compares itself with the history's tail."""

    def check(self, tail: Position) -> bool:
        """Believe that it is well."""
        return True


class LateJoiningHub(Hub):
    """Takes the tail first, then joins the group."""

    async def _begin(self, follower: Follower) -> None:
        await follower.start()
        assert self.groups is not None
        await self.groups.join(follower.topic)


class DroppingStream(Stream):
    """Drops what does not fit."""

    def _spill(self) -> None:
        """Keep the queue."""

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Take the next entries, or pretend to."""
        place = self._places.get(topic)
        live = place is not None and place.live
        super().offer(topic, batch, at_once=at_once)
        if place is not None and live and batch.entries[0].follows(place.queued):
            place.live, place.queued = True, batch.position


class OneTopicSpillStream(Stream):
    """Drops the whole queue, and sends only the topic that found no room back to what has left."""

    _offered = ""

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Note which topic is offered."""
        self._offered = topic
        super().offer(topic, batch, at_once=at_once)

    def _spill(self) -> None:
        others = {
            topic: (place.queued, place.live, place.waits)
            for topic, place in self._places.items()
            if topic != self._offered
        }
        super()._spill()
        for topic, (queued, live, waits) in others.items():
            place = self._places[topic]
            place.queued, place.live, place.waits = queued, live, waits


class HastyStream(Stream):
    """Composes ids from what is queued, not from what has left."""

    def _beside(self, own: Place | None) -> bytes:
        places: Iterable[Place] = self._places.values()
        return b"".join(encode_segment(place.topic, place.queued) for place in places if place is not own)
