"""Programs that know nothing of this package read its streams, from every server."""

import os
import subprocess
from collections.abc import Iterator
from itertools import islice
from typing import get_args

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from django_sse.wire import Message, Parser
from tests.servers.process import Kind, Serve, ServerProcess

pytestmark = pytest.mark.servers

KINDS: tuple[Kind, ...] = get_args(Kind)


@pytest.fixture(params=["asgi", "lean"])
def application(request: pytest.FixtureRequest) -> str:
    """Return the application under Django's own handler, and under the lean one."""
    return f"tests.soak.{request.param}:application"


@pytest.fixture(params=KINDS)
def site(serve: Serve, application: str, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """Return each server in turn, with the site that sends what it is told to; it never complains."""
    site = serve(request.param, application=application, settings="tests.soak.settings")
    yield site
    assert "Traceback" not in site.tail()


def _send(site: ServerProcess, count: int) -> None:
    order: dict[str, str | int] = {"topic": "soak.read", "count": count, "size": 1}
    httpx.get(f"{site.base_url}/burst", params=order, timeout=10).raise_for_status()


def _curl(site: ServerProcess, *arguments: str) -> Iterator[Message]:
    """Read messages with curl until nobody wants more; it ends by itself after 20 s."""
    command = ["curl", "--silent", "--no-buffer", "--max-time", "20", *arguments]
    url = f"{site.base_url}/events/?topic=soak.read"
    with subprocess.Popen([*command, url], stdout=subprocess.PIPE) as curl:
        try:
            assert curl.stdout is not None
            parser = Parser()
            while chunk := os.read(curl.stdout.fileno(), 65536):
                yield from parser.feed(chunk)
        finally:
            curl.kill()


def test_curl_reads_and_resumes(site: ServerProcess) -> None:
    """Curl gets the opening and events, and by Last-Event-ID what it missed."""
    messages = _curl(site)
    assert next(messages).name == "sse-open"
    _send(site, 2)
    first, second = islice(messages, 2)
    assert (first.name, second.name) == ("tick", "tick")
    resumed = _curl(site, "--header", f"Last-Event-ID: {first.id}")
    opening, again = islice(resumed, 2)
    assert (opening.name, opening.id) == ("sse-open", first.id)
    assert again == second


def test_httpx_sse_reads_and_resumes(site: ServerProcess) -> None:
    """The httpx-sse library gets the opening and events, and by lastEventId what it missed."""
    url, params = f"{site.base_url}/events/", {"topic": "soak.read"}
    with httpx.Client(timeout=20) as client:
        with connect_sse(client, "GET", url, params=params) as source:
            events = source.iter_sse()
            assert next(events).event == "sse-open"
            _send(site, 2)
            first, second = islice(events, 2)
        with connect_sse(client, "GET", url, params=params | {"lastEventId": first.id}) as source:
            opening, again = islice(source.iter_sse(), 2)
    assert opening.id == first.id
    assert _told(again) == _told(second)


def _told(event: ServerSentEvent) -> tuple[str, str, str]:
    return event.event, event.data, event.id


def test_only_get_opens_a_stream(site: ServerProcess) -> None:
    """HEAD answers with the headers alone, POST with 405; neither leaves the server busy."""
    url, params = f"{site.base_url}/events/", {"topic": "soak.read"}
    with httpx.Client(timeout=10) as client:
        head = client.head(url, params=params)
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")
        assert client.post(url, params=params).status_code == 405
        assert client.get(url, params={"topic": "secret"}).status_code == 401
