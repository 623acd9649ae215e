"""Plain HTTP clients that believe nothing: they keep every event they receive, and deduplicate none."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode, urlsplit

from django_sse.positions import Cursor, Position, topic_hash
from django_sse.wire import Message, Parser

#: Seconds before a client comes back to where nobody answered.
_PAUSE = 0.05


@dataclass(kw_only=True)
class Stretch:
    """What one topic brought from its start, or from a reset, on: no entry may be missing in it."""

    start: Position
    positions: list[Position] = field(default_factory=list)

    def faults(self) -> Counter[str]:
        """Count what was lost, came twice or out of order, by the offsets."""
        offsets = [position.offset for position in self.positions]
        first = self.start.offset + 1
        expected = range(first, max(offsets, default=first - 1) + 1)
        return Counter(
            lost=len(set(expected) - set(offsets)),
            twice=len(offsets) - len(set(offsets)),
            disordered=sum(later <= earlier for earlier, later in pairwise(offsets)),
        )


@dataclass(kw_only=True)
class Client:
    """A browser without a page: it follows topics, and comes back with the id of its last complete event."""

    base_url: str
    topics: Sequence[str]
    #: Where it goes when its server is gone, in turn; without any that is an error.
    others: list[str] = field(default_factory=list)
    #: Seconds that it stays away after a cut.
    away: float = 0.0
    #: What the project's events held, in order, by topic.
    received: dict[str, list[Any]] = field(default_factory=dict)
    stretches: dict[str, list[Stretch]] = field(default_factory=dict)
    #: The number of the latest event of each topic and publisher.
    latest: dict[tuple[str, int], int] = field(default_factory=dict)
    #: Seconds from sending to arrival, of the events that were sent while it was connected.
    delays: list[float] = field(default_factory=list)
    events: Counter[str] = field(default_factory=Counter)
    connects: int = 0
    last_event_id: str = ""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    _since: float = 0.0
    _progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self, *, until: float = float("inf"), cut_every: float | None = None) -> None:
        """Follow until `until` events came; cut about `cut_every` seconds after each opening."""
        while self.total < until:
            try:
                async with asyncio.timeout(None) as cut:
                    await self._connect(until, cut, cut_every)
            except TimeoutError:
                await asyncio.sleep(self.away)
            except (OSError, asyncio.IncompleteReadError):
                if not self.others:
                    raise
                self.base_url, *self.others = *self.others, self.base_url
                await asyncio.sleep(_PAUSE)

    @property
    def total(self) -> int:
        """How many events of the project's came."""
        return sum(len(events) for events in self.received.values())

    async def reached(self, total: int) -> None:
        """Wait until `total` events came."""
        await self.met(lambda: self.total >= total)

    async def met(self, condition: Callable[[], bool]) -> None:
        """Wait until what came fulfils a condition."""
        async with self._progress:
            await self._progress.wait_for(condition)

    async def _connect(self, until: float, cut: asyncio.Timeout, cut_every: float | None) -> None:
        url = urlsplit(self.base_url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            query = urlencode([("topic", topic) for topic in self.topics])
            # HTTP/1.0 has no chunks: what follows the headers is the stream itself.
            request = f"GET /events/?{query} HTTP/1.0\r\nHost: {url.netloc}\r\n"
            if self.last_event_id:
                request += f"Last-Event-ID: {self.last_event_id}\r\n"
            writer.write(request.encode() + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head.split(b"\r\n")[0], head
            chunked = b"transfer-encoding: chunked" in head.lower()
            self.connects += 1
            parser = Parser(last_event_id=self.last_event_id)
            while self.total < until:
                data = await (_chunk(reader) if chunked else reader.read(65536))
                if not data:
                    return
                for message in parser.feed(data):
                    self._take(message)
                if cut_every is not None and cut.when() is None:
                    # It falls anywhere, in the middle of an event too.
                    spread = cut_every * random.uniform(0.5, 1.5)
                    cut.reschedule(asyncio.get_running_loop().time() + spread)
                async with self._progress:
                    self._progress.notify_all()
        finally:
            writer.close()

    def _take(self, message: Message) -> None:
        self.events[message.name] += 1
        self.last_event_id = message.id
        cursor = Cursor.parse(message.id) if message.id else None
        if message.name == "sse-open":
            self._since = time.time()
            if not self.opened.is_set():
                self._begin(self.topics, cursor)
                self.opened.set()
        elif message.name == "sse-reset":
            self._begin(json.loads(message.text)["topics"], cursor)
        elif message.name == "tick":
            assert cursor is not None
            # An event's own topic stands first in its id.
            own, position = next(iter(cursor.positions.items()))
            topic = next(topic for topic in self.topics if topic_hash(topic) == own)
            data = json.loads(message.text)
            self.received.setdefault(topic, []).append(data)
            self.stretches[topic][-1].positions.append(position)
            self.latest[topic, data["publisher"]] = data["n"]
            if data.get("at", 0.0) > self._since:
                self.delays.append(time.time() - data["at"])

    def _begin(self, topics: Sequence[str], cursor: Cursor | None) -> None:
        for topic in topics:
            if cursor is not None and (position := cursor.get(topic)) is not None:
                self.stretches.setdefault(topic, []).append(Stretch(start=position))

    def faults(self) -> Counter[str]:
        """Count what was lost, came twice or out of order without a reset between, and the resets."""
        count = Counter(lost=0, twice=0, disordered=0, resets=self.events["sse-reset"])
        for stretches in self.stretches.values():
            for stretch in stretches:
                count.update(stretch.faults())
        return count


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline() or b"0", 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]
