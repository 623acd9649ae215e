"""A server with open streams stops, or starts anew, when it is told to, and every stream has a clean end."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest

from django_sse.wire import Message, Parser
from tests.servers.process import ROOT, Kind, Serve, ServerProcess, becomes_true
from tests.servers.test_streams import KINDS

pytestmark = pytest.mark.servers

#: Streams that are open.
COUNT: Final = 100
SETTINGS: Final = """
from tests.soak.settings import *

DEBUG = True
INSTALLED_APPS = ["daphne", *INSTALLED_APPS]
ASGI_APPLICATION = "tests.soak.asgi.application"
"""


class Runserver(ServerProcess):
    """Django's own command, whose autoreloader starts the server, which is daphne."""

    __slots__ = ()

    def command(self) -> list[str]:
        """Word the command."""
        return [sys.executable, "-m", "django", "runserver", f"{self.host}:{self.port}"]


async def follow(client: httpx.AsyncClient, opened: asyncio.Semaphore) -> tuple[str, float | None]:
    """Follow a stream to its end; return its last event's text, and when to come back.

    Raises where the response is not complete.
    """
    parser, messages = Parser(), list[Message]()
    async with client.stream("GET", "/events/?topic=soak.read") as response:
        async for data in response.aiter_bytes():
            is_open = bool(messages)
            messages += parser.feed(data)
            if messages and not is_open:
                opened.release()
    return messages[-1].text, parser.retry


async def end(server: ServerProcess, stop: Callable[[], None]) -> None:
    """Open streams, stop the server, and see that each of them ends as it should."""
    limits = httpx.Limits(max_connections=None)
    opened = asyncio.Semaphore(0)
    async with (
        httpx.AsyncClient(base_url=server.base_url, limits=limits, timeout=60) as client,
        asyncio.timeout(60),
        asyncio.TaskGroup() as group,
    ):
        following = [group.create_task(follow(client, opened)) for _ in range(COUNT)]
        for _ in range(COUNT):
            await opened.acquire()
        stop()
    found = [task.result() for task in following]
    assert {text for text, _ in found} == {'{"reason":"shutdown","reconnect":true}'}
    assert len({retry for _, retry in found}) > COUNT / 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("application", ["asgi", "lean"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_signal_ends_streams_and_server(
    serve: Serve, kind: Kind, application: str, number: signal.Signals
) -> None:
    """Every response is complete, tells the reason and when to come back; then the server is gone."""
    server = serve(kind, application=f"tests.soak.{application}:application", settings="tests.soak.settings")
    await end(server, lambda: os.kill(server.pid, number))
    assert becomes_true(lambda: not server.group(), within=30)
    assert "Traceback" not in server.tail()


@pytest.mark.parametrize("kind", ["hypercorn", "gunicorn", "granian"])
async def test_a_hangup_starts_the_workers_anew(serve: Serve, kind: Kind) -> None:
    """A deploy without a stop: the old workers' streams end, and new ones are served."""
    server = serve(kind, application="tests.soak.lean:application", settings="tests.soak.settings")
    await end(server, lambda: os.kill(server.pid, signal.SIGHUP))
    await end(server, lambda: os.kill(server.pid, signal.SIGTERM))


@pytest.mark.parametrize("kind", ["runserver", "uvicorn"])
async def test_a_changed_file_starts_the_server_anew(tmp_path: Path, kind: str) -> None:
    """While a project is developed its streams end at each change, and come back."""
    changed = tmp_path / "changed_settings.py"
    changed.write_text(SETTINGS)
    make = Runserver if kind == "runserver" else ServerProcess
    server = make(
        kind="uvicorn",
        log=tmp_path / "log",
        application="tests.soak.asgi:application",
        settings=changed.stem,
        environment={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        arguments=["--reload", "--reload-dir", str(tmp_path)],
    )

    def touch() -> None:
        later = changed.stat().st_mtime + 10
        os.utime(changed, (later, later))

    with server:
        before = set(server.group())
        await end(server, touch)
        # The process that watches stays, the one that serves is another.
        assert becomes_true(lambda: not before <= set(server.group()), within=30)
        assert becomes_true(server.answers, within=30)
        await end(server, touch)
