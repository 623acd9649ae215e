"""A stream of topics.

It is a synchronous state machine: it is offered entries by followers, and gives bytes to its outlet; it
never awaits the layer or the history by itself. In each of its topics it is LIVE, where its queue ends
at the follower's position, or it is catching up from the history. When its client is slow it drops its
queue, and catches up at the client's pace: the history is the buffer.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextvars import Context
from typing import Any

from django_sse.conf import Settings
from django_sse.followers import Follower
from django_sse.history import Gone, Page
from django_sse.jobs import without_superseded
from django_sse.positions import (
    MAX_SEGMENT,
    Batch,
    Cursor,
    Entry,
    Position,
    encode_segment,
    frame,
    topic_hash,
)
from django_sse.streams.base import BaseStream, Outlet, reserved_event
from django_sse.streams.places import Place, Reset, State
from django_sse.visitors import Visitor
from django_sse.wire import Event, check_not_reserved, encode

logger = logging.getLogger(__name__)

#: What a project gives as the first state of topics that start fresh, or were reset.
FirstState = Callable[[Collection[str]], Awaitable[Iterable[Event]]]


class Stream(BaseStream):
    """One connection that follows topics.

    ``cursor`` is where the client stands, if it says so. ``malformed``: it brought one that does not parse,
    answered by a reset. ``seconds`` bounds its life beside MAX_AGE. ``visitor`` is whose it is, whose access
    may end. ``first_state`` is asked for events for topics that start fresh or were reset, in ``context``.
    """

    __slots__ = (
        "_behind",
        "_beside_last",
        "_beside_size",
        "_catching_up",
        "_context",
        "_cursor",
        "_first_state",
        "_full",
        "_last",
        "_malformed",
        "_pending",
        "_places",
        "_refused",
        "_starting",
        "_topics",
    )

    def __init__(
        self,
        topics: Iterable[str],
        *,
        settings: Settings,
        cursor: Cursor | None = None,
        malformed: bool = False,
        refused: Collection[str] = (),
        seconds: float | None = None,
        visitor: Visitor | None = None,
        first_state: FirstState | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(settings=settings, seconds=seconds, visitor=visitor)
        self._topics = tuple(dict.fromkeys(topics))
        self._cursor = cursor
        self._malformed = malformed
        self._refused = tuple(refused)
        self._first_state = first_state
        self._context = context
        self._places: dict[str, Place] = {}
        self._starting: asyncio.Task[Any] | None = None
        #: What no spill drops is bytes.
        self._queue: list[bytes | State | Reset | Batch] = []
        self._pending = 0
        self._catching_up = False
        #: Some topic is not live.
        self._behind = False
        #: Bytes of an entry's cursor at most, beside its own topic's.
        self._beside_size = 0
        #: The topic that was written last, and the cursor's parts of the others, unchanged since.
        self._last: Place | None = None
        self._beside_last = b""
        #: An entry did not fit behind what is queued: nothing more is read until that has left.
        self._full = False

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that it follows."""
        return self._topics

    def start(self) -> None:
        """Wait for the followers, then attach."""
        self._starting = self.hub.spawn(self._start())

    async def _start(self) -> None:
        followers = await self.hub.follow(self, self._topics)
        if self.over():
            # It ended while it waited: `follow` may have added it after `_leave` took it away.
            self.hub.unfollow(self, self._topics)
            return
        self._starting = None
        self.hub.fan_out.settle()
        if self.visitor is not None and self.hub.revocations.covers(self.visitor):
            self.hub.streams.end([self], "revoked", drop=True)
        if not self.over():
            self.attach(followers)
            self.opened()

    def _leave(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._hub is not None:
            self._hub.unfollow(self, self._topics)
        super()._leave()

    def attach(self, followers: Iterable[Follower]) -> None:
        """Take the positions to begin from: no await stands between reading and using them.

        Called when what followers heard is settled.
        """
        fresh = []
        for follower in followers:
            start = None if self._cursor is None else self._cursor.get(follower.topic)
            is_fresh = start is None
            if start is None:
                fresh.append(follower.topic)
                if (start := follower.position) is None:
                    msg = f"the follower of {follower.topic!r} has no position yet"
                    raise RuntimeError(msg)
            self._places[follower.topic] = Place.begin(
                follower, start, live=is_fresh, owes_state=is_fresh and self._first_state is not None
            )
        self._behind = not all(place.live for place in self._places.values())
        self._beside_size = MAX_SEGMENT * (len(self._places) - 1)
        opening = reserved_event(
            "sse-open",
            topics=self._topics,
            hashes=[topic_hash(topic) for topic in self._topics],
            fresh=fresh,
            refused=self._refused,
            heartbeat=self.settings.HEARTBEAT,
        )
        # Its id is the cursor resumed from, never ahead of what is still to be replayed.
        self.put_bytes(frame((self._beside(None),), self.word(opening).block))
        if self._malformed:
            self.hub.counters.note_reset("cursor", user=self.user, topics=self._topics)
            reset = reserved_event("sse-reset", topics=self._topics, reason="cursor")
            self.put_bytes(encode(self.word(reset)))
        self.schedule()
        self.look()

    # -- offered by followers -------------------------------------------------------------------

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Take the next entries of a topic: write or queue them where they follow, else ask the history."""
        place, outlet = self._places.get(topic), self._outlet
        if place is None or self.ended:
            return
        if not place.live:
            place.waits = False
            self.look()
        elif batch.entries[0].follows(place.queued):
            # With many topics it is the cursor that is large.
            size = len(batch.frames) + self._beside_size * batch.count
            if self._pending + size > self.settings.MAX_PENDING and (self._queue or batch.count > 1):
                self._spill()
                self._fall_behind(place)  # they and whatever was dropped
            elif at_once and not (self._queue or self._scheduled) and outlet is not None and outlet.free:
                self._write(outlet, place, batch)
            else:
                self._put(place, batch, size)
        elif batch.position != place.queued:
            self._fall_behind(place)

    def _write(self, outlet: Outlet, place: Place, batch: Batch) -> None:
        """Write what need not be queued, and go on."""
        place.queued = batch.position
        try:
            self._silent = False
            outlet.write(self._frames(place, batch))
            if self._behind:
                self.look()
        except Exception:
            logger.exception("A stream failed")
            self._fail(outlet)

    def suspect(self, topic: str) -> None:
        """Compare a topic with the history again."""
        if (place := self._places.get(topic)) is not None:
            place.waits = False
            self._fall_behind(place)

    def _fall_behind(self, place: Place) -> None:
        place.live, self._behind = False, True
        self.look()

    def healed(self) -> None:
        """Look again whether topics can go live."""
        for place in self._places.values():
            place.waits = False
        self.look()

    def look(self) -> None:
        """Catch up where a topic is behind, nothing is queued and the outlet is free."""
        if (
            not self._behind
            or self._catching_up
            or self._queue
            or self.over()
            or self._outlet is None
            or not self._outlet.free
            or all(place.live or place.waits for place in self._places.values())
        ):
            return
        self._catching_up = True
        self.hub.spawn(self._catch_up(), context=self._context)

    async def _catch_up(self) -> None:
        try:
            await self.hub.catch_up(self)
        finally:
            self._catching_up = False
        self.look()

    # -- catching up, one read at a time --------------------------------------------------------

    async def prepare(self) -> None:
        """Queue the first state of the topics that owe it, before anything else of theirs."""
        places = tuple(place for place in self._places.values() if place.owes_state)
        if not places or self._first_state is None or self.over():
            return
        for place in places:
            place.owes_state = False
        try:
            events = list(await self._first_state([place.topic for place in places]))
            data = b"".join(encode(self.word(check_not_reserved(event))) for event in events)
        except Exception:
            if self.over():
                # The request is over, and with it what the project's code may use.
                logger.debug("The first state of a stream that has ended failed", exc_info=True)
                return
            # Without their state these topics would be silently wrong; the client comes back and asks again.
            logger.exception("The first state of a stream failed")
            self.end("error")
            return
        if self.over():
            return  # nothing follows sse-close
        self._queue.append(State(places=places, data=data))
        self._pending += len(data)
        self.schedule()

    def lagging(self) -> tuple[str, Position] | None:
        """Return the topic that waits longest and where it is, None where there is no need or no room."""
        if self.over() or self._full or self._pending > self.settings.MAX_PENDING // 2:
            return None
        for topic, place in self._places.items():
            if not (place.live or place.waits):
                # Round robin: the next read is another topic's.
                del self._places[topic]
                self._places[topic] = place
                place.seen = place.follower.position
                return topic, place.queued
        return None

    def take(self, topic: str, asked: Position, page: Page | Gone) -> None:
        """Queue what was read; go live where the follower is at the very same entry."""
        self.hub.fan_out.settle()
        place = self._places[topic]
        if self.over() or place.queued != asked:
            return  # the queue was spilled, or the topic reset, while the history was read
        if isinstance(page, Gone):
            self._reset(place, page.tail)
            return
        if page.entries and not self._put_fitting(place, without_superseded(page.entries)):
            self._full = True  # the rest is read again when there is room
            return
        if page.more:
            return
        # No await between comparing and going live. LIVE means equal, nothing else: a stream that is
        # ahead of its follower could go deaf when the follower starts anew.
        position = place.follower.position
        if position == place.queued:
            place.live = True
            self._behind = not all(place.live for place in self._places.values())
        elif not page.entries and position == place.seen:
            place.waits = True
            place.follower.heal()

    def _reset(self, place: Place, tail: Position) -> None:
        place.queued = tail
        place.owes_state = self._first_state is not None
        segment = b"" if place.owes_state else encode_segment(place.topic, tail)
        block = self.word(reserved_event("sse-reset", topics=[place.topic], reason="history")).block
        self._queue.append(Reset(place=place, position=tail, segment=segment, block=block))
        self._pending += len(block)
        self.schedule()

    # -- the queue ------------------------------------------------------------------------------

    def _put(self, place: Place, batch: Batch, size: int) -> None:
        self._queue.append(batch)
        self._pending += size
        place.queued = batch.position
        self.schedule()

    def _put_fitting(self, place: Place, entries: Sequence[Entry]) -> bool:
        """Queue as many as there is room for, one at least where nothing is queued; tell whether all were."""
        size = count = 0
        for entry in entries:
            larger = size + len(entry.frame) + self._beside_size
            if self._pending + larger > self.settings.MAX_PENDING and (count or self._queue):
                break
            size, count = larger, count + 1
        if count:
            self._put(place, Batch(entries[:count]), size)
        return count == len(entries)

    def _spill(self) -> None:
        """Drop the queue: every topic that it held goes back to what has left, and so is behind."""
        self.hub.counters.spills += 1
        dropped, self._queue, self._pending, self._full = self._queue, [], 0, False
        for item in dropped:
            if isinstance(item, bytes):
                self._queue.append(item)
            elif isinstance(item, State):
                for place in item.places:
                    # Owed only where the client's cursor lacks the topic; a reset that is dropped as well
                    # is found again.
                    place.owes_state, place.live = not place.segment, False
            elif isinstance(item, Reset):
                item.place.owes_state = not item.place.segment and self._first_state is not None
        for place in self._places.values():
            if place.queued != place.sent:
                place.queued = place.sent
                place.live = place.waits = False

    def _beside(self, own: Place | None) -> bytes:
        """Return the cursor's parts of all topics but one."""
        if own is None or own is not self._last:
            self._last = own
            self._beside_last = b"".join(
                [place.segment for place in self._places.values() if place is not own]
            )
        return self._beside_last

    def compose(self) -> bytes:
        """Return everything queued as one write; ids are made here, from what has left in each topic."""
        queue, self._pending, self._full = self._queue, 0, False
        parts = [self._compose(item) for item in queue]
        queue.clear()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _compose(self, item: bytes | State | Reset | Batch) -> bytes:
        if isinstance(item, Batch):
            return self._frames(self._places[item.topic], item)
        if isinstance(item, Reset):
            place = item.place
            self.hub.counters.note_reset("history", user=self.user, topics=(place.topic,))
            place.sent, place.segment = item.position, item.segment
            return frame((item.segment, self._beside(place)), item.block)
        if isinstance(item, State):
            self._last = None
            for place in item.places:
                if not place.owes_state:
                    place.segment = encode_segment(place.topic, place.sent)
            return item.data
        return item

    def _frames(self, place: Place, batch: Batch) -> bytes:
        place.sent, place.segment = batch.position, batch.segment
        return batch.frames_beside(self._beside(place)) if self._beside_size else batch.frames
