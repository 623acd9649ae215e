"""Everyday faults between Firefox and the site: nothing is lost, and who is not wanted does not insist."""

from functools import partial

import pytest

from tests.browser.conftest import Site
from tests.browser.firefox.conftest import finish, fresh, texts, wait_for_state
from tests.browser.firefox.pages import Page, Profile
from tests.browser.proxy import Proxy, Request
from tests.browser.test_stream import LOG

pytestmark = pytest.mark.browser

#: Seconds that a busy machine may add.
SLOWNESS = 2.0


@pytest.fixture
def opened(page: Page, proxied: Site) -> Page:
    """Open the page behind the proxy, with one event shown."""
    proxied.write(LOG)
    page.goto(proxied.url)
    proxied.add(pk=1, text="1")
    finish(proxied, page)
    return page


def test_one_refusal(opened: Page, proxied: Site, proxy: Proxy) -> None:
    """After a cut and one 503 the next event comes within 5 s."""
    proxy.deploy(503)
    proxied.add(pk=2, text="2")
    opened.wait_for_function("document.querySelectorAll('li').length === 2", within=5)
    finish(proxied, opened)
    assert texts(opened, "li") == ["1", "2"]
    assert [request.status for request in proxy.streams] == [200, 503, 200]


def test_a_deploy(opened: Page, proxied: Site, proxy: Proxy) -> None:
    """After a cut, a refused connection and a 503 the stream goes on from its position."""
    proxy.deploy(0, 503)
    for number in range(2, 5):
        proxied.add(pk=number, text=str(number))
    finish(proxied, opened)
    assert texts(opened, "li") == ["1", "2", "3", "4"]
    first, *others = [request.last_event_id for request in proxy.streams]
    assert first not in others
    assert len(set(others)) == 1, "the position was kept over the refusals"


def test_retry_after(opened: Page, proxied: Site, proxy: Proxy) -> None:
    """A server that asks for 4 seconds is given 4 to 8."""
    proxy.answer(503, headers={"Retry-After": "4"}, times=1)
    proxy.drop()
    proxy.wait_for(lambda: len(proxy.streams) == 3, within=20)
    _, refused, again = proxy.streams
    assert refused.answered is not None
    assert 3.9 < again.began - refused.answered < 8 + SLOWNESS
    proxied.add(pk=2, text="2")
    finish(proxied, opened)
    assert texts(opened, "li") == ["1", "2"]


@pytest.mark.parametrize(("status", "state"), [(204, "closed"), (403, "denied"), (302, "denied")])
def test_not_wanted(
    page: Page, profile: Profile, proxied: Site, proxy: Proxy, status: int, state: str
) -> None:
    """After 204, 403 or a redirect to a page the state says so, and one request was enough."""
    other = Site(base_url=proxied.base_url)

    def of_the_first(request: Request) -> bool:
        return proxied.topic in request.query["topic"]

    def is_back(count: int) -> bool:
        streams = [request for request in proxy.streams if not of_the_first(request)]
        return len(streams) == count and streams[-1].open

    proxy.answer(status, headers={"Location": "/closings/login/"}, when=of_the_first)
    proxied.write("")
    page.goto(proxied.url)
    wait_for_state(page, state)
    # Meanwhile another stream, of a key of its own, comes back as often as it is cut.
    with fresh(profile.connection) as neighbour:
        other.write("")
        tab = neighbour.new_page()
        tab.goto(other.url)
        for count in range(1, 5):
            proxy.wait_for(partial(is_back, count))
            proxy.drop()
    assert page.evaluate("sse.state") == state
    assert len([request for request in proxy.streams if of_the_first(request)]) == 1


def test_a_silent_connection(page: Page, proxied: Site, proxy: Proxy) -> None:
    """A connection that only looks alive, from its first event on, is replaced after three heartbeats."""
    proxied.write(LOG)
    page.goto(proxied.url)
    wait_for_state(page, "open")
    proxy.silence()
    proxied.add(pk=1, text="unheard")
    page.wait_for_function("document.querySelectorAll('li').length === 1", within=8)
    finish(proxied, page)
    assert texts(page, "li") == ["unheard"]
    assert len(proxy.streams) == 2
