"""Streams of signed-in users leave the database to the ordinary pages."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest

from django_sse.wire import Parser
from tests.servers.postgres import PostgresServer
from tests.servers.process import ROOT, Kind, Serve, ServerProcess, becomes_true

pytestmark = pytest.mark.servers

SETTINGS = "tests.servers.accounts.settings"
#: Streams, of so many users, and the connections that the database allows; three are its owner's.
STREAMS, USERS, CONNECTIONS = 200, 10, 20


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """Return a database with Django's tables."""
    with PostgresServer(max_connections=CONNECTIONS) as postgres:
        command = [sys.executable, "-m", "django", "migrate", "--verbosity=0", "--skip-checks"]
        environment = {**os.environ, **postgres.environment, "DJANGO_SETTINGS_MODULE": SETTINGS}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)
        yield postgres


@pytest.fixture
def site(serve: Serve, postgres: PostgresServer, kind: Kind, application: str) -> ServerProcess:
    """Return a site on that database."""
    return serve(
        kind,
        application=f"tests.soak.{application}:application",
        settings=SETTINGS,
        environment=postgres.environment,
    )


@pytest.fixture
async def http(site: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Return what asks the site."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=site.base_url, limits=limits, timeout=60) as http:
        yield http


async def enter(http: httpx.AsyncClient, number: int) -> dict[str, str]:
    """Make an account; return the headers of its session."""
    answer = (await http.get("/enter", params={"name": f"user-{number}"})).raise_for_status()
    http.cookies.clear()
    return {"Cookie": f"sessionid={answer.cookies['sessionid']}"}


async def until(chunks: AsyncIterator[bytes], parser: Parser, name: str) -> None:
    """Read a stream as far as an event of this name."""
    async for data in chunks:
        if any(message.name == name for message in parser.feed(data)):
            return
    raise AssertionError(f"the stream ended before {name}")


@pytest.mark.parametrize(
    ("kind", "application"), [("uvicorn", "lean"), ("uvicorn", "asgi"), ("daphne", "asgi")]
)
async def test_streams_hold_no_connections(http: httpx.AsyncClient, postgres: PostgresServer) -> None:
    """With 200 open streams and 20 connections pages work, rechecks pass, and every stream hears."""
    room = asyncio.Semaphore(5)  # Django's own handler has a connection for each request under way

    async with AsyncExitStack() as stack, asyncio.timeout(120):
        sessions = [await enter(http, number) for number in range(USERS)]

        async def connect(headers: dict[str, str]) -> tuple[AsyncIterator[bytes], Parser]:
            async with room:
                response = await stack.enter_async_context(http.stream("GET", "/events/", headers=headers))
                assert response.status_code == 200
                chunks, parser = response.aiter_bytes(), Parser()
                await until(chunks, parser, "sse-open")
                return chunks, parser

        async def page(headers: dict[str, str]) -> None:
            async with room:
                answer = (await http.get("/page", headers=headers)).raise_for_status().json()
                assert answer["users"] >= USERS
                assert answer["name"].startswith("user-")

        streams = [await connect(sessions[number % USERS]) for number in range(STREAMS)]
        await asyncio.gather(*(page(sessions[number % USERS]) for number in range(100)))
        # A recheck finds the one whose session is gone, and nobody else.
        chunks, parser = await connect(lost := await enter(http, USERS))
        key = lost["Cookie"].removeprefix("sessionid=")
        await asyncio.to_thread(postgres.execute, "DELETE FROM django_session WHERE session_key = %s", key)
        await until(chunks, parser, "sse-close")
        await asyncio.gather(*(page(headers) for headers in sessions))
        (await http.get("/tell")).raise_for_status()
        await asyncio.gather(*(until(chunks, parser, "told") for chunks, parser in streams))
        # The recheck has one, now and then.
        assert await asyncio.to_thread(becomes_true, lambda: postgres.count_connections() <= 1, within=30)
