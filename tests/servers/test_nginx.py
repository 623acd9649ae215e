"""The how-to's nginx before each server, by the how-to's own commands."""

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from django_sse.conf import get_settings
from django_sse.testing import ReceivedEvent
from django_sse.wire import Parser
from tests.servers.nginx import NAME, PAGE, Nginx, shown
from tests.servers.process import ROOT, Kind, ServerProcess, becomes_true
from tests.servers.test_streams import KINDS

pytestmark = pytest.mark.servers

PATIENCE = 30
BURST = 2_000
STREAM = "/events/?topic=soak.read"


@dataclass(kw_only=True, slots=True, eq=False)
class Shown(ServerProcess):
    """A server that is started as the how-to says."""

    def command(self) -> list[str]:
        """Take the command from the page, with the places of this test."""
        (line,) = [text for text in shown("sh") if text.startswith(f"{self.kind} ")]
        line = line.replace("8000", str(self.port)).replace("mysite.asgi:application", self.application)
        words = shlex.split(line)
        # Its socket would lie in the home directory, where the tests' other servers have theirs.
        own = ["--no-control-socket"] if self.kind == "gunicorn" else []
        return [sys.executable, "-m", words[0], *own, *words[1:]]


def shown_server(kind: Kind, directory: Path) -> Shown:
    """Return a server with the settings that the how-to adds."""
    (more,) = shown("python")
    settings = directory / "proxied_settings.py"
    settings.write_text(
        f"from tests.soak.settings import *\nALLOWED_HOSTS = [*ALLOWED_HOSTS, {NAME!r}]\n{more}"
    )
    return Shown(
        kind=kind,
        log=directory / f"{kind}.log",
        application="tests.soak.lean:application",
        settings=settings.stem,
        environment={"PYTHONPATH": f"{ROOT}{os.pathsep}{directory}"},
    )


def before(server: ServerProcess, directory: Path, *, patience: str = "10s") -> Nginx:
    """Return the nginx before a server."""
    log, own = directory / "nginx.log", directory / "nginx"
    return Nginx(kind=server.kind, log=log, server=server, directory=own, patience=patience)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """Return each server in turn."""
    with shown_server(request.param, tmp_path) as server:
        yield server
        print(server.tail())


@pytest.fixture
def nginx(server: ServerProcess, tmp_path: Path) -> Iterator[Nginx]:
    """Return the nginx before it."""
    with before(server, tmp_path) as nginx:
        yield nginx
        print(nginx.tail())


@asynccontextmanager
async def browser(nginx: Nginx) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client that speaks HTTP/2, as a page of the site would."""
    headers = {"Host": NAME, "Origin": f"https://{NAME}"}
    async with (
        asyncio.timeout(2 * PATIENCE),
        httpx.AsyncClient(
            base_url=nginx.base_url, http2=True, verify=nginx.trust, headers=headers, timeout=PATIENCE
        ) as client,
    ):
        yield client


async def events(response: httpx.Response) -> AsyncIterator[ReceivedEvent]:
    """Give the events of a stream; raises where the response is not complete."""
    assert (response.status_code, response.http_version) == (200, "HTTP/2"), response
    parser = Parser()
    async for data in response.aiter_bytes():
        for message in parser.feed(data):
            yield ReceivedEvent(name=message.name, text=message.text, id=message.id)


async def send(client: httpx.AsyncClient, count: int) -> None:
    """Have the site send so many small events."""
    order = {"topic": "soak.read", "count": str(count), "size": "1"}
    (await client.get("/burst", params=order)).raise_for_status()


async def test_a_stream_passes_through(nginx: Nginx, server: ServerProcess) -> None:
    """One event comes at once, thousands come whole and in order, and the server's stop is the stream's end.

    The site knows its own address behind nginx, and so refuses the pages of another one.
    """
    async with browser(nginx) as client, client.stream("GET", STREAM) as response:
        stranger = await client.get(STREAM, headers={"Origin": f"http://{NAME}"})
        assert stranger.status_code == httpx.codes.FORBIDDEN
        stream = events(response)
        assert (await anext(stream)).name == "sse-open"
        for count in (1, BURST):
            # Before the next heartbeat would push the last one out of a buffer.
            async with asyncio.timeout(get_settings().HEARTBEAT * 0.8):
                await send(client, count)
                assert [(await anext(stream)).data["n"] for _ in range(count)] == list(range(count))

        os.kill(server.pid, signal.SIGTERM)
        (end,) = [event async for event in stream]
    assert (end.name, end.data) == ("sse-close", {"reason": "shutdown", "reconnect": True})
    assert await asyncio.to_thread(becomes_true, lambda: not server.group(), within=PATIENCE)


async def test_nginx_is_reloaded(tmp_path: Path) -> None:
    """The old workers let go of their streams, which go on at the new ones; files are served."""
    with shown_server("uvicorn", tmp_path) as server, before(server, tmp_path, patience="1s") as nginx:
        (nginx.directory / "style.css").write_text("p {}")
        async with browser(nginx) as client:
            file = await client.get("/static/style.css")
            assert (file.text, file.headers["Content-Type"]) == ("p {}", "text/css")
            async with client.stream("GET", STREAM) as response:
                stream = events(response)
                assert (await anext(stream)).name == "sse-open"
                await send(client, 1)
                last = await anext(stream)
                os.kill(nginx.pid, signal.SIGHUP)
                with pytest.raises(httpx.HTTPError):
                    await anext(stream)
            await send(client, 1)
            async with client.stream("GET", STREAM, headers={"Last-Event-ID": last.id}) as response:
                again = [event async for event in _two(events(response))]
    assert [event.name for event in again] == ["sse-open", "tick"]


async def _two(stream: AsyncIterator[ReceivedEvent]) -> AsyncIterator[ReceivedEvent]:
    yield await anext(stream)
    yield await anext(stream)


def test_every_server_has_its_section() -> None:
    """The page has those that the tests run, each with one command."""
    assert re.findall(r"^### (\w+)\n\n```sh\n\1 ", PAGE.read_text(), re.MULTILINE) == list(KINDS)
    assert len(shown("sh")) == len(KINDS)
