"""Whatever breaks under load, nothing is lost, doubled or reordered, or else a reset says so first.

Redis and the processes are real, the clients are plain HTTP with correct ids, and the publishers send
each event again until it is acknowledged, with its idempotency key. What each client has is compared
with what the history has, entry by entry, behind every test's block.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.servers.process import Kind, Serve, ServerProcess
from tests.servers.redis import RedisServer
from tests.servers.site import CLIENTS, TOPICS, Site
from tests.waiting import eventually

pytestmark = pytest.mark.servers

LAYERS = ["channels_redis.core.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer"]
NOTHING = {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
#: One for each topic of each client.
EVERYWHERE = NOTHING | {"resets": CLIENTS * len(TOPICS)}


@pytest.fixture(params=[True, False], ids=["aof", "memory"])
def redis(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Return an empty server, which keeps what it acknowledged over a crash, or loses everything."""
    with RedisServer(directory=tmp_path / "redis", aof=request.param) as server:
        yield server


@pytest.fixture(params=LAYERS, ids=["core", "pubsub"])
def site(redis: RedisServer, serve: Serve, request: pytest.FixtureRequest) -> Site:
    """Return two processes of one site, by each layer in turn."""
    kinds: tuple[Kind, Kind] = ("uvicorn", "daphne")
    servers = [
        serve(
            kind,
            application="tests.soak.asgi:application",
            settings="tests.soak.settings",
            environment={"SOAK_REDIS": redis.url, "SOAK_LAYER": request.param, "SOAK_CHECK": "1"},
        )
        for kind in kinds
    ]
    return Site(redis=redis, servers=servers)


only_with_memory = pytest.mark.parametrize("redis", [False], ids=["memory"], indirect=True)


async def test_redis_crashes(site: Site) -> None:
    """A Redis that keeps what it acknowledged costs no reset; one that forgets costs each topic one."""
    async with site.load() as load:
        await load.arrived(0.3)
        await asyncio.to_thread(site.redis.restart)
        await load.arrived(0.6)
        await asyncio.to_thread(site.redis.restart)
    assert load.faults() == (NOTHING if site.redis.aof else EVERYWHERE | {"resets": 2 * EVERYWHERE["resets"]})


@only_with_memory
async def test_connections_break(site: Site) -> None:
    """Connections that Redis ends again and again, the layer's and the history's, cost nothing."""
    async with site.load() as load:
        for part in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
            await load.arrived(part)
            killed = [site.redis.command("CLIENT", "KILL", "TYPE", kind) for kind in ("normal", "pubsub")]
            assert sum(killed) > 0
    assert load.faults() == NOTHING


@only_with_memory
async def test_redis_stalls(site: Site) -> None:
    """A Redis that answers nobody for longer than the timeouts costs nothing but the time."""
    async with site.load() as load:
        await load.arrived(0.3)
        site.redis.command("CLIENT", "PAUSE", 5000, "ALL")
    assert load.faults() == NOTHING


@only_with_memory
async def test_redis_is_frozen(site: Site) -> None:
    """A Redis whose machine stands still until every process has noticed costs nothing but the time."""
    async with site.load() as load:
        await load.arrived(0.3)
        with site.redis.frozen():
            await eventually(
                lambda: all("found no history" in server.log.read_text() for server in site.servers),
                within=30,
            )
    assert load.faults() == NOTHING


@only_with_memory
async def test_redis_is_flushed(site: Site) -> None:
    """What was flushed is announced, once for each topic of each client."""
    async with site.load() as load:
        await load.arrived(0.4)
        site.redis.flush()
    assert load.faults() == EVERYWHERE


@only_with_memory
async def test_a_replica_takes_over_without_the_last_writes(site: Site, tmp_path: Path) -> None:
    """Clients that saw entries which the new primary never had are told so, each topic once."""
    primary = site.redis
    with RedisServer(directory=tmp_path / "replica") as replica:
        primary.command("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        replica.command("REPLICAOF", "127.0.0.1", primary.port)
        await eventually(lambda: replica.command("INFO", "replication")["master_link_status"] == "up")
        async with site.load() as load:
            await load.arrived(0.4)
            replica.command("REPLICAOF", "NO", "ONE")
            await load.arrived(0.6)
            primary.kill()
            replica.command("CONFIG", "SET", "port", primary.port)
        assert load.faults() == EVERYWHERE


@only_with_memory
async def test_a_process_is_frozen(site: Site) -> None:
    """A process that stands still for longer than a layer keeps its messages goes on where it was."""
    async with site.load() as load, _frozen(site.servers[0]):
        async with asyncio.timeout(30):
            for client in load.clients:
                if client.base_url != site.servers[0].base_url:
                    await client.reached(400)
    assert load.faults() == NOTHING


@asynccontextmanager
async def _frozen(server: ServerProcess) -> AsyncIterator[None]:
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGCONT)


@only_with_memory
async def test_a_process_is_killed(site: Site) -> None:
    """The clients of a killed process go on at the other one, where they were."""
    async with site.load(publish_at=site.servers[1:]) as load:
        await load.arrived(0.4)
        os.killpg(site.servers[0].pid, signal.SIGKILL)
    assert load.faults() == NOTHING
    assert all(client.base_url == site.servers[1].base_url for client in load.clients)
