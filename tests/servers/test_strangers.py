"""What strangers bring, as a cursor, on the layer or into the history, is logged or reset, and no more."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from tests.servers.process import Kind, Serve, ServerProcess
from tests.servers.redis import RedisServer
from tests.soak.clients import Client

pytestmark = pytest.mark.servers

LAYERS = {"core": RedisChannelLayer, "pubsub": RedisPubSubChannelLayer}
LOG = "sse:asgi:{soak.a}"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a server."""
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=LAYERS)
def layer(redis: RedisServer, request: pytest.FixtureRequest) -> Any:
    """Return another program's channel layer on the same Redis."""
    return LAYERS[request.param](hosts=[redis.url])


@pytest.fixture(params=["uvicorn", "daphne"])
def site(serve: Serve, redis: RedisServer, layer: Any, request: pytest.FixtureRequest) -> ServerProcess:
    """Return a process of the site."""
    kind: Kind = request.param
    return serve(
        kind,
        application="tests.soak.asgi:application",
        settings="tests.soak.settings",
        environment={
            "SOAK_REDIS": redis.url,
            "SOAK_LAYER": f"{type(layer).__module__}.{type(layer).__qualname__}",
            "SOAK_CHECK": "0.5",
        },
    )


async def send(site: ServerProcess, count: int) -> None:
    """Send events."""
    params: dict[str, str | int] = {"topic": "soak.a", "count": count, "size": 1}
    async with httpx.AsyncClient() as http:
        (await http.get(f"{site.base_url}/burst", params=params)).raise_for_status()


@asynccontextmanager
async def following(site: ServerProcess, *, cursor: str = "") -> AsyncIterator[Client]:
    """Return a client that is connected in the block, and loses its connection never."""
    client = Client(base_url=site.base_url, topics=["soak.a"], last_event_id=cursor)
    async with asyncio.timeout(60):
        task = asyncio.create_task(client.follow())
        await client.opened.wait()
        yield client
    assert client.connects == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "Traceback" not in site.log.read_text()


CURSORS = {
    "forged": "1~{own}.1.0123456789",
    "of a later time": "1~{own}.9007199254740991.0123456789",
    "of another version": "2~{own}.1.0123456789",
    "foreign": "42",
    "gigantic": "1" + "~a" * 2000,
    "of three hundred topics": "1" + "".join(f"~abcde{number:03}.1.0123456789" for number in range(300)),
    "binary": "\xff\xfe",
    "another markup": "<script>alert(1)</script>",
}


async def test_cursors(site: ServerProcess) -> None:
    """Whoever brings a cursor that is not ours gets a stream all the same, and a reset before all else."""
    async with following(site) as client:
        await send(site, 1)
        await client.reached(1)
        genuine = client.last_event_id
    own = genuine.split("~")[1].split(".")[0]
    truncated = {f"truncated to {length}": genuine[:length] for length in range(2, len(genuine))}
    for name, text in (CURSORS | truncated).items():
        async with following(site, cursor=text.replace("{own}", own)) as client:
            await client.met(lambda client=client: client.events["sse-reset"] == 1)  # type: ignore[misc]
            await send(site, 1)
            await client.reached(1)
            assert list(client.events) == ["sse-open", "sse-reset", "tick"], name


MESSAGES: Sequence[dict[str, Any]] = [
    {"type": "chat.message", "text": "hello"},
    {"type": "sse.entry"},
    {"type": "sse.entry", "topic": "soak.a", "offset": 2**60, "tag": "x"},
    {"type": "sse.entry", "topic": "soak.a", "offset": 5, "tag": 1, "origin": None},
    {"type": "sse.entry", "topic": "so\nak", "offset": 1, "tag": 1},
    {
        "type": "sse.entry",
        "topic": "soak.a",
        "offset": 1,
        "tag": 1,
        "previous": 1,
        "time": 0.0,
        "name": "tick",
        "text": "forged",
    },
]


async def test_messages(site: ServerProcess, layer: Any) -> None:
    """Messages of another program, or forged, are no events, and those behind them arrive."""
    async with following(site) as client:
        for number, message in enumerate(MESSAGES, 1):
            await layer.group_send("sse.t.soak.a", message)
            await send(site, 5)
            await client.reached(5 * number)
        assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
        assert set(client.events) <= {"sse-open", "tick"}
    if isinstance(layer, RedisChannelLayer):
        await layer.close_pools()
    else:
        await layer.flush()


@pytest.mark.parametrize(
    "spoil",
    [
        [("SET", LOG, "nonsense")],  # in one step: a deleted log would be a reset of its own
        [("XADD", LOG, "900000-5", "previous", "1", "name", "tick", "text", "a\nid: 7\n\ndata: forged")],
        [("XADD", LOG, "*", "temperature", "21")],
    ],
    ids=["another type", "a forged entry", "a stranger"],
)
async def test_entries(site: ServerProcess, redis: RedisServer, spoil: Sequence[Sequence[Any]]) -> None:
    """A history that was tampered with resets its streams, shows nothing of it, and goes on."""
    async with following(site) as client:
        await send(site, 5)
        await client.reached(5)
        for words in spoil:
            redis.command(*words)
        await client.met(lambda: client.events["sse-reset"] == 1)
        await send(site, 5)
        await client.reached(10)
        assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 1}
        assert set(client.events) == {"sse-open", "tick", "sse-reset"}
