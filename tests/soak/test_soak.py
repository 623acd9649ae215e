"""A real server under real load loses nothing, doubles nothing and keeps the order."""

import asyncio
from collections import Counter
from contextlib import closing
from itertools import chain
from typing import get_args

import httpx
import pytest

from django_sse.wire import Parser
from tests.servers.process import Kind, Serve
from tests.soak.clients import Client

pytestmark = pytest.mark.soak

#: Five topics of 4,000 events each: well within the 10,000 that the default history keeps.
TOPICS = ["soak.0", "soak.1", "soak.2", "soak.3", "soak.4"]
EVENTS = 20_000
PUBLISHERS = 8
#: Django's own handler, and the lean one.
BOTH = pytest.mark.parametrize(
    ("kind", "application"),
    [("daphne", "asgi"), ("uvicorn", "asgi"), ("daphne", "lean"), ("uvicorn", "lean")],
)


def site(application: str) -> dict[str, str]:
    """Return what serves the site with one of its two applications."""
    return {"application": f"tests.soak.{application}:application", "settings": "tests.soak.settings"}


async def _all_open(clients: list[Client]) -> None:
    async with asyncio.timeout(30):
        await asyncio.gather(*(client.opened.wait() for client in clients))


@BOTH
async def test_clients_that_cut_and_resume_lose_nothing(serve: Serve, kind: Kind, application: str) -> None:
    """20 clients that cut and resume every 0.2 s get each of 20,000 events once, in order, no reset."""
    server = serve(kind, **site(application))
    clients = [Client(base_url=server.base_url, topics=TOPICS) for _ in range(20)]
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(240), asyncio.TaskGroup() as following:
        for client in clients:
            following.create_task(client.follow(until=EVENTS, cut_every=0.2))
        await _all_open(clients)
        began = loop.time()
        async with httpx.AsyncClient(base_url=server.base_url) as http:
            order: dict[str, str | int | list[str]] = {
                "publishers": PUBLISHERS,
                "count": EVENTS // PUBLISHERS,
                "seconds": 21,
                "topic": TOPICS,
            }
            (await http.get("/publish", params=order)).raise_for_status()
    took = loop.time() - began
    faults = Counter[str]()
    for client in clients:
        faults.update(client.faults())
        sent = [(data["publisher"], data["n"]) for data in chain(*client.received.values())]
        assert len(sent) == EVENTS
        assert set(sent) == {(p, n) for p in range(PUBLISHERS) for n in range(EVENTS // PUBLISHERS)}
        for entries in client.received.values():
            for publisher in range(PUBLISHERS):
                numbers = [data["n"] for data in entries if data["publisher"] == publisher]
                assert numbers == sorted(numbers), "one publisher's events came out of order"
    connects = sum(client.connects for client in clients)
    print(f"{kind}: {EVENTS} events in {took:.1f} s, {connects} connects, {dict(faults)}")
    assert faults == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
    assert took >= 20
    assert connects >= 20 * 10, "the clients did not cut"


@BOTH
async def test_a_burst_reaches_every_live_client_whole(serve: Serve, kind: Kind, application: str) -> None:
    """10,000 events sent without a pause reach 10 live clients, each once and in order."""
    server = serve(kind, **site(application))
    clients = [Client(base_url=server.base_url, topics=["soak.burst"]) for _ in range(10)]
    async with asyncio.timeout(120), asyncio.TaskGroup() as following:
        for client in clients:
            following.create_task(client.follow(until=10_000))
        await _all_open(clients)
        async with httpx.AsyncClient(base_url=server.base_url, timeout=60) as http:
            order: dict[str, str | int] = {"topic": "soak.burst", "count": 10_000, "size": 20}
            (await http.get("/burst", params=order)).raise_for_status()
    for client in clients:
        assert client.connects == 1
        assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
        assert [data["n"] for data in client.received["soak.burst"]] == list(range(10_000))


@pytest.mark.parametrize(
    ("kind", "application", "part"),
    # granian's own threads and allocator take some more until they have settled.
    [("uvicorn", "asgi", 10), *((kind, "lean", 5 if kind == "granian" else 10) for kind in get_args(Kind))],
)
async def test_a_client_that_never_reads_costs_bounded_memory(
    serve: Serve, kind: Kind, application: str, part: int
) -> None:
    """Offered 50 MB, a client that reads nothing costs little, and the others wait for nothing."""
    size, batch, batches = 62_500, 40, 20  # 50 MB in all
    # A short history: what it keeps is not what a slow client costs.
    # Large blocks go back to the system when they are freed, so that what is resident is what is in use.
    environment = {"SOAK_LENGTH": str(2 * batch), "MALLOC_MMAP_THRESHOLD_": "32768"}
    server = serve(kind, **site(application), environment=environment)
    stuck_reader, stuck_writer = await asyncio.open_connection(server.host, server.port, limit=1)
    stuck_writer.write(b"GET /events/?topic=soak.flood HTTP/1.0\r\n\r\n")
    with closing(stuck_writer):
        clients = [Client(base_url=server.base_url, topics=["soak.flood"]) for _ in range(3)]
        async with (
            asyncio.timeout(120),
            asyncio.TaskGroup() as following,
            httpx.AsyncClient(base_url=server.base_url, timeout=60) as http,
        ):
            for client in clients:
                following.create_task(client.follow(until=batch * batches))
            await _all_open(clients)
            order: dict[str, str | int] = {"topic": "soak.flood", "count": batch, "size": size}
            rss = []
            for number in range(batches):
                (await http.get("/burst", params=order)).raise_for_status()
                await asyncio.gather(*(client.reached(batch * (number + 1)) for client in clients))
                rss.append(server.rss())
        offered = size * batch * batches
        for client in clients:
            assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
        # The first batches fill the short history, the sockets' buffers and the allocator's pools.
        growth = rss[-1] - rss[3]
        print(f"offered {offered / 1e6:.0f} MB; resident {[f'{r / 1e6:.0f}' for r in rss]} MB")
        assert growth < offered / part
        # Only now it reads: what it missed is gone from this short history, and that is said.
        parser, names = Parser(), set[str]()
        async with asyncio.timeout(30):
            while "sse-reset" not in names:
                names.update(message.name for message in parser.feed(await stuck_reader.read(65536)))
