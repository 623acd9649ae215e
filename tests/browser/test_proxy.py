"""The tests' proxy passes everything, makes the faults it is told to make, and leaves nothing behind."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.browser.conftest import Site
from tests.browser.proxy import Proxy, Request
from tests.servers.process import ServerProcess

pytestmark = pytest.mark.browser


@contextmanager
def stream(site: Site, *, read: float = 10, **query: str) -> Iterator[Iterator[str]]:
    """Open a stream of the site's topic, whose lines come in time or raise."""
    params = {"topic": site.topic, **query}
    url, timeout = f"{site.base_url}/events/", httpx.Timeout(10, read=read)
    with httpx.stream("GET", url, params=params, timeout=timeout) as response:
        yield response.raise_for_status().iter_lines()


def status(site: Site) -> int:
    """Return what a request of a stream is answered."""
    with httpx.stream("GET", f"{site.base_url}/events/?topic={site.topic}") as response:
        return response.status_code


def test_everything_passes(proxied: Site, proxy: Proxy) -> None:
    """Pages, what is posted and streams come through; streams are counted, with their positions."""
    proxied.write("a page of <i>mine</i>")
    assert "a page of <i>mine</i>" in proxied.get(f"pages/{proxied.topic}/")
    with stream(proxied, lastEventId="1~here") as lines:
        assert any("sse-open" in line for line in lines)
        proxied.send("news", "ä" * 10_000)
        assert any("ä" * 10_000 in line for line in lines)
        (request,) = proxy.open_streams
        assert proxy.most_at_once() == 1
    assert (request.path, request.status) == ("/events/", 200)
    assert request.query == {"topic": [proxied.topic], "lastEventId": ["1~here"]}
    assert request.last_event_id == "1~here"
    proxy.wait_for(lambda: not proxy.open_streams)


def test_what_is_answered(proxied: Site, proxy: Proxy) -> None:
    """Each answer comes as often as it was told, in the order of telling; other requests pass."""
    proxy.answer(429, headers={"Retry-After": "4"}, times=1)
    proxy.answer(302, headers={"Location": "/login/"}, times=2)
    proxy.answer(404, path="/closings/gone/")
    first = httpx.get(f"{proxied.base_url}/events/")
    assert (first.status_code, first.headers["Retry-After"]) == (429, "4")
    second = httpx.get(f"{proxied.base_url}/events/")
    assert (second.status_code, second.headers["Location"]) == (302, "/login/")
    assert [status(proxied) for _ in range(2)] == [302, 200]
    assert proxied.get("closings/other/") == "0"
    assert httpx.get(f"{proxied.base_url}/closings/gone/").status_code == 404
    proxy.mend()
    assert proxied.get("closings/gone/") == "0"
    assert [request.status for request in proxy.streams] == [429, 302, 302, 200]


def test_pieces(proxied: Site, proxy: Proxy) -> None:
    """An answer's body is what was told, byte by byte, and ends."""
    proxy.answer(pieces=[b"data: \xc3", b"\xa4\r", b"\n\n"], when=lambda request: "raw" in request.query)
    response = httpx.get(f"{proxied.base_url}/events/?raw=1")
    assert response.content == b"data: \xc3\xa4\r\n\n"
    assert response.headers["Content-Type"] == "text/event-stream"
    assert status(proxied) == 200


def test_a_deploy(proxied: Site, proxy: Proxy) -> None:
    """Streams are cut without a goodbye, the next requests are refused or reset, then all is well."""
    with stream(proxied) as lines:
        assert any("sse-open" in line for line in lines)
        proxy.deploy(0, 503)
        with pytest.raises(httpx.ReadError):
            list(lines)
    with pytest.raises(httpx.ReadError):
        status(proxied)
    assert [status(proxied) for _ in range(2)] == [503, 200]


def test_a_silent_connection(proxied: Site, proxy: Proxy) -> None:
    """Nothing more comes on the streams that there are, not even an end; new ones are well."""
    with stream(proxied, read=1.5) as silent:
        assert any("sse-open" in line for line in silent)
        proxy.silence()
        with stream(proxied) as lines:
            assert any("sse-open" in line for line in lines)
            proxied.send("news", "unheard")
            assert any("unheard" in line for line in lines)
        proxy.wait_for(lambda: proxy.open_streams == proxy.streams[:1])
        with pytest.raises(httpx.ReadTimeout):
            print(list(silent))


def test_what_is_held(proxied: Site, proxy: Proxy) -> None:
    """Answers of some requests are held back whole, or behind their headers."""
    proxy.hold("answer", when=lambda request: request.query.get("hold") == ["all"])
    proxy.hold("body", when=lambda request: request.query.get("hold") == ["body"])
    with pytest.raises(httpx.ReadTimeout), stream(proxied, read=1.5, hold="all"):
        pass
    with stream(proxied, read=1.5, hold="body") as lines, pytest.raises(httpx.ReadTimeout):
        print(list(lines))
    assert status(proxied) == 200
    assert [request.status for request in proxy.streams] == [None, 200, 200]


@pytest.mark.parametrize(
    ("second", "ended", "count"), [(0.5, None, 2), (0.9, None, 1), (1.1, None, 1), (0.5, 0.6, 1)]
)
def test_streams_at_once(second: float, ended: float | None, count: int) -> None:
    """Streams count together where they are open together, but not for the moment of a change."""
    proxy = Proxy(0)
    assert proxy.most_at_once() == 0
    proxy.requests += [
        Request(target="/events/", headers={}, status=200, answered=0.1, ended=1),
        Request(target="/events/", headers={}, status=200, answered=second, ended=ended),
        Request(target="/events/", headers={}, status=503, answered=0.2),
        Request(target="/other/", headers={}, status=200, answered=0.2),
    ]
    assert proxy.most_at_once() == count


def test_nothing_is_left(brisk_server: ServerProcess) -> None:
    """With the proxy end its connections, its thread and its port."""
    with Proxy(brisk_server.port) as proxy, stream(Site(base_url=proxy.base_url)) as lines:
        assert any("sse-open" in line for line in lines)
        proxy.close()
        with pytest.raises(httpx.HTTPError):
            list(lines)
    assert not proxy._thread.is_alive()
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", proxy.port))
