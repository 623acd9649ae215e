"""Pages of other sites follow streams only where the project allows them."""

from collections.abc import AsyncIterator

import pytest
from pytest_django import Settings

from django_sse import access
from tests.exchange import Exchange, open_exchange
from tests.visits import Visit

pytestmark = pytest.mark.usefixtures("handler")

FRIEND = "https://app.example.com"
STRANGER = "https://evil.example.com"
NEWS = "/events/?topic=news"


@pytest.fixture(autouse=True)
async def exchange(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Exchange]:
    """Return the hub of a process that allows one other site."""
    settings.MIDDLEWARE = []
    monkeypatch.setattr(access, "_rules", [])
    access.allow("news", public=True)
    async with open_exchange(settings, ALLOWED_ORIGINS=[FRIEND, "http://[::1]:8000"]) as exchange:
        yield exchange


@pytest.mark.parametrize("origin", [FRIEND, "http://[::1]:8000"])
async def test_an_allowed_page_may_read(exchange: Exchange, origin: str) -> None:
    """It gets the stream, with the headers that let it be read with its cookies."""
    async with Visit(NEWS, headers={"Origin": origin}) as visit:
        assert visit.status == 200
        assert visit.headers["access-control-allow-origin"] == origin
        assert visit.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in visit.headers["vary"]
        await visit.event("sse-open")


@pytest.mark.parametrize(
    "origin",
    [
        STRANGER,
        "null",
        "",
        "https://app.example.com.evil.com",
        "https://app.example.com:8443",
        "http://app.example.com",
        "https://APP.example.com",
        f"{FRIEND}, {STRANGER}",
        f"{FRIEND}/",
        "https://testserver",
        "http://testserver:80",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
async def test_a_strange_page_may_not(exchange: Exchange, origin: str, method: str) -> None:
    """It is refused before anything else is looked at, and nothing is opened for it."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    async with Visit(NEWS, method=method, headers=headers) as visit:
        assert visit.status == 403
        assert not any(name.startswith("access-control") for name in visit.headers)
        if method != "HEAD":
            assert "ALLOWED_ORIGINS" in await visit.rest()
    assert not exchange.hub.streams


async def test_pages_of_the_site_itself_are_no_strangers() -> None:
    """Browsers do not name them for a GET; who does is told by the same name."""
    for headers in ({}, {"Origin": "http://testserver"}):
        async with Visit(NEWS, headers=headers) as visit:
            assert visit.status == 200
            assert "access-control-allow-origin" not in visit.headers
            assert "Origin" in visit.headers["vary"]


async def test_a_host_that_is_none_of_ours(settings: Settings) -> None:
    """Who names a host that the project does not serve is nobody's page."""
    async with Visit(NEWS, headers={"Host": "evil", "Origin": "http://evil"}) as visit:
        assert visit.status == 403


async def test_a_page_may_read_why_it_was_refused() -> None:
    """Also an answer without a stream carries the headers, so that scripts see its status."""
    async with Visit("/events/?topic=secret", headers={"Origin": FRIEND}) as visit:
        assert visit.status == 401
        assert visit.headers["access-control-allow-origin"] == FRIEND


async def test_the_preflight_is_answered() -> None:
    """Scripts that send Last-Event-ID by themselves ask first; credentials and methods are named, no star."""
    headers = {
        "Origin": FRIEND,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "last-event-id",
    }
    async with Visit(NEWS, method="OPTIONS", headers=headers) as visit:
        assert visit.status == 204
        assert visit.headers["access-control-allow-origin"] == FRIEND
        assert visit.headers["access-control-allow-credentials"] == "true"
        assert visit.headers["access-control-allow-methods"] == "GET, HEAD"
        assert "Last-Event-ID" in visit.headers["access-control-allow-headers"]
        assert "*" not in "".join(visit.headers.values())
        assert await visit.rest() == ""
    async with Visit(NEWS, method="OPTIONS", headers={"Origin": FRIEND}) as visit:
        assert visit.status == 200
        assert visit.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_by_default_nobody_is_allowed(settings: Settings) -> None:
    """Without the setting every other site is a stranger."""
    settings.DJANGO_SSE = {}
    async with Visit(NEWS, headers={"Origin": FRIEND}) as visit:
        assert visit.status == 403
