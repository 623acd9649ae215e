"""Plain HTTP clients that believe nothing: they keep every event they receive, and deduplicate none."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode, urlsplit

from django_sse.positions import Cursor, Position, topic_hash
from django_sse.wire import Message, Parser


@dataclass(kw_only=True)
class Client:
    """A browser without a page: it follows topics, and comes back with the id of its last complete event."""

    base_url: str
    topics: list[str]
    #: What it was sent, in order, by the topic whose event it is.
    received: dict[str, list[tuple[Position, Mapping[str, Any]]]] = field(default_factory=dict)
    #: Where each topic stood when the first connection opened.
    start: Mapping[str, Position] = field(default_factory=lambda: MappingProxyType({}))
    events: Counter[str] = field(default_factory=Counter)
    connects: int = 0
    last_event_id: str = ""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    _progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self, *, until: int, cut_every: float | None = None) -> None:
        """Follow until `until` events came; cut about `cut_every` seconds after each opening."""
        while self.total < until:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as cut:
                    await self._connect(until, cut, cut_every)

    @property
    def total(self) -> int:
        """How many events of the project's came."""
        return sum(len(entries) for entries in self.received.values())

    async def reached(self, total: int) -> None:
        """Wait until `total` events came."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.total >= total)

    async def _connect(self, until: int, cut: asyncio.Timeout, cut_every: float | None) -> None:
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
        if message.name == "sse-open" and not self.start:
            cursor = Cursor.parse(message.id)
            self.start = {
                topic: position for topic in self.topics if (position := cursor.get(topic)) is not None
            }
            self.opened.set()
        elif message.name == "tick":
            # An event's own topic stands first in its id.
            own = next(iter(Cursor.parse(message.id).positions.items()))
            topic = next(topic for topic in self.topics if topic_hash(topic) == own[0])
            self.received.setdefault(topic, []).append((own[1], json.loads(message.text)))

    def faults(self) -> dict[str, int]:
        """Count what was lost, came twice or out of order, by the offsets of each topic, and the resets."""
        count = {"lost": 0, "twice": 0, "disordered": 0, "resets": self.events["sse-reset"]}
        for topic in self.topics:
            offsets = [position.offset for position, _ in self.received.get(topic, [])]
            first = self.start[topic].offset + 1
            expected = range(first, max(offsets, default=first - 1) + 1)
            count["lost"] += len(set(expected) - set(offsets))
            count["twice"] += len(offsets) - len(set(offsets))
            count["disordered"] += sum(later <= earlier for earlier, later in pairwise(offsets))
        return count


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int(await reader.readline() or b"0", 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]
