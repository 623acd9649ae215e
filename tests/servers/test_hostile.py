"""Whatever is asked, nobody hears what they must not, nothing fails, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from tests.servers.hostile import Attacker, health, secret
from tests.servers.process import Kind, Serve, ServerProcess
from tests.servers.test_streams import KINDS

pytestmark = pytest.mark.servers

#: Requests of the attacker, and connections that are aborted in each phase.
REQUESTS = 1000
ABORTS = 50
GET = b"GET /events/?topic=soak.%s%s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


@pytest.fixture
def site(serve: Serve, kind: Kind, application: str) -> ServerProcess:
    """Return a server that forgets topics soon."""
    return serve(
        kind,
        application=f"tests.soak.{application}:application",
        settings="tests.soak.settings",
        environment={"SOAK_LINGER": "0.1", "SOAK_CHECK": "0.5"},
    )


@pytest.fixture
async def http(site: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Return what asks the server politely."""
    async with httpx.AsyncClient(base_url=site.base_url, timeout=30) as http:
        yield http


async def assert_nothing_is_left(http: httpx.AsyncClient, before: dict[str, int]) -> None:
    """Wait until a server holds no more than it did."""
    kept = ("streams", "followers", "tasks", "descriptors")
    async with asyncio.timeout(60):
        now = await health(http)
        while any(now[name] > before[name] for name in kept):
            await asyncio.sleep(0.1)
            now = await health(http)
    # Threads are kept to be used again, a fixed number of them.
    assert now["threads"] <= 20, now


@pytest.mark.parametrize(("kind", "application"), [("uvicorn", "lean"), ("daphne", "asgi")])
async def test_an_attacker_gets_nothing(site: ServerProcess, http: httpx.AsyncClient) -> None:
    """Any query, header, cursor, path and method: no fault, no hang, no event of another user, no leak."""
    attacker = Attacker(base_url=site.base_url, seed=1)
    await attacker.learn(http)  # from now on the hub's own tasks run
    before = await health(http) | {"streams": 0, "followers": 0}
    attack = asyncio.create_task(attacker.attack(REQUESTS))
    while not attack.done():
        await secret(http)
        await asyncio.wait([attack], timeout=0.2)
    await attack
    assert attacker.findings == []
    assert attacker.statuses[200] > REQUESTS / 10
    await assert_nothing_is_left(http, before)
    assert "Traceback" not in site.log.read_text(errors="replace")


async def before_the_headers(read: Callable[[bytes], Awaitable[None]]) -> None:
    """Go as soon as the request is sent."""


async def in_the_replay(read: Callable[[bytes], Awaitable[None]]) -> None:
    """Go while what was missed is on its way."""
    await read(b"event: tick")


async def in_an_event(read: Callable[[bytes], Awaitable[None]]) -> None:
    """Go in the middle of a large event."""
    await read(b"xxxx")


async def idle(read: Callable[[bytes], Awaitable[None]]) -> None:
    """Go when there is nothing more to read."""
    await read(b"sse-open")


PHASES: dict[Callable[..., Awaitable[None]], str] = {
    before_the_headers: "idle",
    in_the_replay: "replay",
    in_an_event: "large",
    idle: "idle",
}


@pytest.mark.parametrize("application", ["asgi", "lean"])
@pytest.mark.parametrize("kind", KINDS)
async def test_who_aborts_leaves_nothing_behind(site: ServerProcess, http: httpx.AsyncClient) -> None:
    """In whatever phase a client resets its connection, nothing of it stays in the server."""
    cursors = {topic: await begin(http, topic) for topic in ("replay", "large", "idle")}
    for topic, count, size in (("replay", 500, 100), ("large", 1, 900_000)):
        order = {"topic": f"soak.{topic}", "count": str(count), "size": str(size)}
        (await http.get("/burst", params=order)).raise_for_status()
    before = await health(http) | {"streams": 0, "followers": 0}
    for phase, topic in PHASES.items():
        request = GET % (topic.encode(), b"&lastEventId=" + cursors[topic].encode())
        await asyncio.gather(*(abort(site, request, phase) for _ in range(ABORTS)))
    await assert_nothing_is_left(http, before)
    assert "Traceback" not in site.log.read_text(errors="replace")


async def begin(http: httpx.AsyncClient, topic: str) -> str:
    """Return the cursor of a topic without entries."""
    async with http.stream("GET", "/events/", params={"topic": f"soak.{topic}"}) as response:
        async for line in response.aiter_lines():
            if line.startswith("id: "):
                return line.removeprefix("id: ")
    raise AssertionError("no cursor came")


async def abort(site: ServerProcess, request: bytes, phase: Callable[..., Awaitable[None]]) -> None:
    """Open a stream, and reset the connection in a phase of it."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(site.host, site.port, limit=4096)
        writer.write(request)
        await writer.drain()

        async def read(until: bytes) -> None:
            seen = b""
            while until not in seen:
                data = await reader.read(1024)
                assert data, f"the stream ended after {seen!r}"
                seen = seen[-100:] + data

        await phase(read)
        writer.transport.abort()
