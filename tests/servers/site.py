"""A site of several processes on one Redis, under load, while something breaks."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx

from django_sse.history import Page
from django_sse.history.redis import RedisHistory
from tests.servers.process import ServerProcess
from tests.servers.redis import RedisServer
from tests.soak.clients import Client

TOPICS: Final = ("soak.a", "soak.b")
CLIENTS: Final = 6
PUBLISHERS: Final = 4
#: Events of each publisher, and the seconds over which it sends them where nothing breaks.
COUNT: Final = 300
SECONDS: Final = 3.0
#: Seconds in which everything has healed and arrived.
PATIENCE: Final = 60.0


@dataclass(kw_only=True)
class Load:
    """Clients that follow, and publishers that send."""

    clients: Sequence[Client]
    publishers: int

    async def arrived(self, part: float) -> None:
        """Wait until every client has come so far, with this part of what each publisher sends to a topic."""
        count, rows = math.floor(part * COUNT), self.publishers * len(TOPICS)

        def is_there(client: Client) -> bool:
            # A publisher's last event went to one topic, the one before it to the other.
            return sum(n >= count - len(TOPICS) for n in client.latest.values()) == rows

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(client.met(partial(is_there, client)) for client in self.clients))

    def faults(self) -> Counter[str]:
        """Count what was lost, came twice or out of order, without a reset between, and the resets."""
        count = Counter[str]()
        for client in self.clients:
            count.update(client.faults())
        return count


@dataclass(kw_only=True)
class Site:
    """Server processes on one Redis."""

    redis: RedisServer
    servers: list[ServerProcess]

    @asynccontextmanager
    async def load(self, *, publish_at: Sequence[ServerProcess] = ()) -> AsyncIterator[Load]:
        """Follow and send, half of it at each server, until everything has arrived after the block."""
        urls = [server.base_url for server in self.servers]
        clients = [
            Client(base_url=urls[number % 2], others=[urls[1 - number % 2]], topics=TOPICS)
            for number in range(CLIENTS)
        ]
        async with AsyncExitStack() as stack:
            tasks = [asyncio.create_task(client.follow()) for client in clients]
            stack.push_async_callback(_end, tasks)
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(client.opened.wait() for client in clients))
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
            places = publish_at or self.servers
            each = PUBLISHERS // len(places)
            for number, server in enumerate(places):
                order: dict[str, Any] = {
                    "first": number * each,
                    "publishers": each,
                    "count": COUNT,
                    "seconds": SECONDS,
                    "topic": TOPICS,
                }
                (await http.get(f"{server.base_url}/publish", params=order)).raise_for_status()
            load = Load(clients=clients, publishers=each * len(places))
            yield load
            await load.arrived(1.0)
            for client in clients:
                await self._compare(client)

    async def _compare(self, client: Client) -> None:
        """Compare what a client has since its last reset with what the history has."""
        history = RedisHistory(url=self.redis.url, prefix="sse:asgi")
        for topic in TOPICS:
            stretch = client.stretches[topic][-1]
            page = await history.read(topic, stretch.start, limit=PUBLISHERS * COUNT)
            assert isinstance(page, Page), "the client went on from where nothing was"
            assert stretch.positions == [entry.position for entry in page.entries]
            latest: dict[int, int] = {}
            for event in [json.loads(entry.event.text) for entry in page.entries]:
                assert event["n"] > latest.get(event["publisher"], -1), (
                    "a publisher's events are out of order"
                )
                latest[event["publisher"]] = event["n"]


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
