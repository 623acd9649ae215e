"""Several processes on one Redis are one site."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.servers.process import ROOT, Kind, Serve, ServerProcess, becomes_true
from tests.servers.redis import RedisServer
from tests.soak.clients import Client

pytestmark = pytest.mark.servers

LAYERS = ["channels_redis.core.RedisChannelLayer", "channels_redis.pubsub.RedisPubSubChannelLayer"]
COUNT = 500


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Return an empty server of this test's own."""
    with RedisServer(directory=tmp_path / "redis") as server:
        yield server


@pytest.fixture(params=LAYERS, ids=["core", "pubsub"])
def environment(redis: RedisServer, request: pytest.FixtureRequest) -> dict[str, str]:
    """Return what makes the site use Redis, by each layer in turn."""
    return {"SOAK_REDIS": redis.url, "SOAK_LAYER": request.param}


@pytest.fixture
def sites(serve: Serve, environment: dict[str, str]) -> list[ServerProcess]:
    """Return two processes of one site."""
    kinds: tuple[Kind, Kind] = ("uvicorn", "daphne")
    return [
        serve(
            kind,
            application="tests.soak.asgi:application",
            settings="tests.soak.settings",
            environment=environment,
        )
        for kind in kinds
    ]


async def test_what_one_process_sends_all_deliver(sites: list[ServerProcess]) -> None:
    """Clients of both processes get what both send, each once and in order, at once."""
    clients = [
        Client(base_url=site.base_url, topics=["soak.a", "soak.b"]) for site in sites for _ in range(2)
    ]
    async with asyncio.timeout(60), asyncio.TaskGroup() as following:
        for client in clients:
            following.create_task(client.follow(until=2 * COUNT))
        await asyncio.gather(*(client.opened.wait() for client in clients))
        async with httpx.AsyncClient(timeout=30) as http:
            bursts = [
                http.get(f"{site.base_url}/burst", params={"topic": topic, "count": COUNT // 2, "size": 20})
                for site in sites
                for topic in ("soak.a", "soak.b")
            ]
            for answer in await asyncio.gather(*bursts):
                answer.raise_for_status()
    for client in clients:
        assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}


async def test_a_client_goes_on_at_another_process(sites: list[ServerProcess]) -> None:
    """Whoever loses its process resumes at the other one, without a reset."""
    client = Client(base_url=sites[0].base_url, topics=["soak.a"])
    async with asyncio.timeout(60), httpx.AsyncClient(timeout=30) as http:
        first = asyncio.create_task(client.follow(until=10))
        await client.opened.wait()
        params: dict[str, str | int] = {"topic": "soak.a", "count": 10, "size": 1}
        (await http.get(f"{sites[1].base_url}/burst", params=params)).raise_for_status()
        await first
        (await http.get(f"{sites[1].base_url}/burst", params=params)).raise_for_status()
        client.base_url = sites[1].base_url
        await client.follow(until=20)
    assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
    assert [data["n"] for data in client.received["soak.a"]] == [*range(10), *range(10)]


async def test_whose_access_is_revoked_in_one_process(sites: list[ServerProcess]) -> None:
    """Their streams end in all of them at once, and nobody else's."""
    await revoke_in_the_first(sites)


async def test_a_revocation_that_no_layer_carries(serve: Serve, redis: RedisServer) -> None:
    """Where every message is lost, for there is no layer between them, the tail check finds it."""
    sites = [
        serve(
            "uvicorn",
            application=f"tests.soak.{application}:application",
            settings="tests.soak.settings",
            environment={"SOAK_HISTORY": redis.url, "SOAK_CHECK": "0.5"},
        )
        for application in ("asgi", "lean")
    ]
    await revoke_in_the_first(sites)


async def revoke_in_the_first(sites: list[ServerProcess]) -> None:
    """Open streams of two users at each site, and revoke one of them."""
    async with asyncio.timeout(60), httpx.AsyncClient(timeout=30) as http, AsyncExitStack() as stack:
        lines: list[tuple[str, AsyncIterator[str]]] = []
        for site in sites:
            for user in ("1", "2"):
                params = {"topic": "soak.a", "as": user}
                stream = http.stream("GET", f"{site.base_url}/events/", params=params)
                response = await stack.enter_async_context(stream)
                lines.append((user, response.aiter_lines()))
        for _, each in lines:
            assert "event: sse-open" in [line async for line in until(each, "event: sse-open")]
        (await http.get(f"{sites[0].base_url}/revoke", params={"user": "1"})).raise_for_status()
        for user, each in lines:
            if user == "1":
                rest = [line async for line in each]
                assert 'data: {"reason":"revoked","reconnect":true}' in rest
        params = {"topic": "soak.a", "count": "1", "size": "1"}
        (await http.get(f"{sites[1].base_url}/burst", params=params)).raise_for_status()
        for user, each in lines:
            if user == "2":
                assert "event: tick" in [line async for line in until(each, "event: tick")]


async def until(lines: AsyncIterator[str], last: str) -> AsyncIterator[str]:
    """Give the lines as far as one of them."""
    async for line in lines:
        yield line
        if line == last:
            break


async def test_every_process_tells_its_status(
    sites: list[ServerProcess], environment: dict[str, str]
) -> None:
    """A command in a process of its own learns what the others serve."""
    clients = [Client(base_url=site.base_url, topics=["soak.a"]) for site in sites]
    async with asyncio.timeout(60):
        following = [asyncio.create_task(client.follow()) for client in clients]
        await asyncio.gather(*(client.opened.wait() for client in clients))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "django", "sse_status", "--skip-checks", "--json"),
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.soak.settings", **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told, complaints = await process.communicate()
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    assert (process.returncode, complaints) == (0, b"")
    assert [report["topics"] for report in json.loads(told)] == [{"soak.a": 1}] * 2


async def test_memberships_outlive_their_expiry(serve: Serve, redis: RedisServer) -> None:
    """A day in small: a group forgets its members after 2 s, a process joins anew, and still is told."""
    environment = {
        "SOAK_REDIS": redis.url,
        "SOAK_LAYER": LAYERS[0],
        "SOAK_EXPIRY": "2",
        "SOAK_RENEW": "0.5",
        "SOAK_CHECK": "0.5",
    }
    site, other = (
        serve(
            "uvicorn",
            application="tests.soak.lean:application",
            settings="tests.soak.settings",
            environment=environment,
        )
        for _ in range(2)
    )

    def joined() -> float:
        """Return when a process joined the topic's group, by the clock of the store."""
        members = redis.command("ZRANGE", "asgi:group:sse.t.soak.a", 0, -1, "WITHSCORES")
        return max((float(score) for score in members[1::2]), default=0.0)

    client = Client(base_url=site.base_url, topics=["soak.a"])
    async with asyncio.timeout(60), httpx.AsyncClient(timeout=30) as http:
        following = asyncio.create_task(client.follow(until=20))
        await client.opened.wait()
        began = joined()
        assert await asyncio.to_thread(becomes_true, lambda: joined() > began + 5, within=30)
        params = {"topic": "soak.a", "count": "20", "size": "1"}
        (await http.get(f"{other.base_url}/burst", params=params)).raise_for_status()
        await following
        counted = (await http.get(f"{site.base_url}/health")).raise_for_status().json()
    assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
    assert counted["missed"] < 10, "the layer told it, not the tail check"


async def test_a_script_is_heard(sites: list[ServerProcess], environment: dict[str, str]) -> None:
    """A process without streams, which sends and ends, reaches the streams of the others at once."""
    script = (
        "import django; django.setup(); from django_sse import send_event; "
        "send_event('soak.a', 'tick', {'publisher': 0, 'n': 1})"
    )
    clients = [Client(base_url=site.base_url, topics=["soak.a"]) for site in sites]
    async with asyncio.timeout(60), asyncio.TaskGroup() as following:
        for client in clients:
            following.create_task(client.follow(until=1))
        await asyncio.gather(*(client.opened.wait() for client in clients))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            script,
            cwd=ROOT,
            env={"DJANGO_SETTINGS_MODULE": "tests.soak.settings", **environment},
            stderr=asyncio.subprocess.PIPE,
        )
        _, complaints = await process.communicate()
        assert (process.returncode, complaints) == (0, b"")
