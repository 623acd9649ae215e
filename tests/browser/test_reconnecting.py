"""A stream comes back from every everyday fault, goes on where it was, and stops where it is told."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import Site, new_page, profile, texts, wait_for_state
from tests.browser.proxy import Proxy, Request
from tests.browser.test_stream import LOG

pytestmark = pytest.mark.browser

POLYFILL = "/eventsource.min.js"
#: Seconds between two beats of the site's heart.
HEARTBEAT = 1
#: Seconds that a browser and a proxy may need beyond the time that was agreed.
TRANSIT = 0.5
#: Seconds after which a stream that was well comes back at the latest.
LONGEST = 1.2


def opened(page: Page, site: Site) -> None:
    """Open a page that logs its rows, with the first of them."""
    site.open(page, LOG)
    wait_for_state(page, "open")
    site.add(pk=1, text="1")
    expect(page.locator("li")).to_have_text(["1"])


def streams(proxy: Proxy, site: Site) -> list[Request]:
    """Return the requests of a site's topic."""
    return list(filter(follows(site), proxy.streams))


def follows(site: Site) -> Callable[[Request], bool]:
    """Return what tells whether a stream follows a site's topic."""
    return lambda request: site.topic in request.query.get("topic", ())


def is_plain(request: Request) -> bool:
    """Tell whether a stream's events are to have their own names."""
    return "envelope" not in request.query


def test_one_refusal(page: Page, proxied: Site, proxy: Proxy) -> None:
    """After one 503 the next event is shown within five seconds."""
    opened(page, proxied)
    began = time.monotonic()
    proxy.deploy(503)
    proxied.add(pk=2, text="2")
    expect(page.locator("li")).to_have_text(["1", "2"], timeout=5000)
    assert time.monotonic() - began < 5
    assert [request.status for request in proxy.streams] == [200, 503, 200]


def test_a_deploy(page: Page, proxied: Site, proxy: Proxy) -> None:
    """Through a deploy the stream keeps its position: nothing is lost, nothing doubled."""
    opened(page, proxied)
    proxied.add(pk=2, text="2")
    proxied.finish(page)
    proxy.deploy(0, 503, 502)
    wait_for_state(page, "reconnecting")
    proxied.add(pk=3, text="3")
    proxy.wait_for(lambda: len(proxy.streams) == 5, within=20)
    wait_for_state(page, "open")
    proxied.add(pk=4, text="4")
    proxied.finish(page)
    assert texts(page, "li") == ["1", "2", "3", "4"]
    assert [request.status for request in proxy.streams] == [200, 0, 503, 502, 200]
    first, *others = [request.last_event_id for request in proxy.streams]
    assert len(set(others)) == 1
    assert others[0] not in {"", first}


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(page: Page, proxied: Site, proxy: Proxy, status: int) -> None:
    """A server that says when to come back is asked then, at the latest after twice that time."""
    proxy.answer(status, headers={"Retry-After": "4"}, times=1)
    proxied.open(page, LOG)
    proxy.wait_for(lambda: len(proxy.streams) == 2)
    refused, second = proxy.streams
    assert refused.answered is not None
    assert 4 <= second.began - refused.answered <= 8 + TRANSIT
    proxied.finish(page)


#: What is answered, and what the page then says.
FINAL: Sequence[tuple[int, Mapping[str, str], str]] = (
    (204, {}, "closed"),
    (401, {}, "denied"),
    (403, {}, "denied"),
    (302, {"Location": "/login/"}, "denied"),
)


def test_a_final_answer(chromium: Browser, page: Page, proxied: Site, proxy: Proxy) -> None:
    """Where the answer is no, or a login, the page says so, and does not ask again."""
    opened(page, proxied)
    proxy.answer(200, headers={"Content-Type": "text/html"}, pieces=[b"Who are you?"], path="/login/")
    refused = [Site(base_url=proxy.base_url) for _ in FINAL]
    complaints: list[str] = []
    with ExitStack() as people:
        for site, (status, headers, state) in zip(refused, FINAL, strict=True):
            proxy.answer(status, headers=headers, when=follows(site))
            tab = new_page(people.enter_context(profile(chromium)), complaints)
            site.open(tab)
            wait_for_state(tab, state)
        last = time.monotonic()
        while len(streams(proxy, proxied)) < 3 or time.monotonic() < last + 2 * LONGEST:
            proxy.drop()
            proxy.wait_for(lambda: not proxy.open_streams)
            proxy.wait_for(lambda: proxy.open_streams)
        assert [len(streams(proxy, site)) for site in refused] == [1] * len(FINAL)
        assert len(proxy.requests_of("/login/")) == 1
    assert all("Failed to load resource" in complaint for complaint in complaints)


def test_a_silent_connection(page: Page, proxied: Site, proxy: Proxy) -> None:
    """A connection on which not even the heart beats is given up after three beats, and nothing is lost."""
    proxied.open(page, LOG)
    wait_for_state(page, "open")
    proxy.silence()  # perhaps behind the very first piece of the stream
    silent = time.monotonic()
    proxied.add(pk=1, text="1")
    proxy.wait_for(lambda: len(proxy.streams) == 2)
    # One beat may just have come; then come the reconnection time and its spread.
    assert 2 * HEARTBEAT <= proxy.streams[1].began - silent <= 3 * HEARTBEAT + LONGEST + TRANSIT
    proxied.finish(page)
    assert texts(page, "li") == ["1"]


def test_forty_at_once(context: BrowserContext, proxied: Site, proxy: Proxy) -> None:
    """Of forty streams that are dropped at once, 30 % at most come back in one tenth of a second."""
    follow = f'<sse-stream src="/events/?topic={proxied.topic}"></sse-stream>'
    proxied.write(4 * follow)  # and the tag's own
    for number in range(8):
        # A browser opens six connections to one host name.
        host = f"host{number}.localhost:{proxy.port}"
        context.new_page().goto(f"http://{host}/pages/{proxied.topic}/")
    proxy.wait_for(lambda: len(proxy.open_streams) == 40)
    dropped = time.monotonic()
    proxy.drop()
    proxy.wait_for(lambda: len(proxy.open_streams) == 40)
    back = Counter(int((request.began - dropped) * 10) for request in proxy.streams[40:])
    assert back.total() == 40
    assert max(back.values()) <= 12, back


def test_a_fetch_that_hangs(page: Page, other_page: Page, proxied: Site, proxy: Proxy) -> None:
    """Where an answer is held back, or its body, EventSource delivers from then on, not the polyfill."""
    other = Site(base_url=proxy.base_url)
    proxy.hold("answer", when=lambda request: is_plain(request) and follows(proxied)(request))
    proxy.hold("body", when=lambda request: is_plain(request) and follows(other)(request))
    tabs = [(page, proxied), (other_page, other)]
    for tab, site in tabs:
        site.open(tab, LOG)
        site.add(pk=1, text="1")
    for tab, _ in tabs:
        expect(tab.locator("li")).to_have_text(["1"])
    delivering = proxy.open_streams
    assert len(delivering) == 2
    # Its heartbeats are heard.
    proxy.wait_for(lambda: time.monotonic() - (delivering[-1].answered or 0) > 3.5 * HEARTBEAT)
    assert proxy.open_streams == delivering
    proxy.drop()
    for tab, site in tabs:
        site.add(pk=2, text="2")
        site.finish(tab)
        assert texts(tab, "li") == ["1", "2"]
        assert [is_plain(request) for request in streams(proxy, site)] == [True, False, False]
    assert [request for request in proxy.requests if request.path.endswith(POLYFILL)] == []


def test_without_event_source(page: Page, proxied: Site, proxy: Proxy, complaints: list[str]) -> None:
    """Where EventSource is missing too, the polyfill is fetched, once, and delivers, also after a refusal."""
    page.add_init_script("delete window.EventSource")
    proxy.hold("body", when=is_plain)
    opened(page, proxied)
    proxied.add(pk=2, text="2")
    proxied.finish(page)
    proxy.deploy(503)
    proxied.add(pk=3, text="3")
    proxied.finish(page)
    assert texts(page, "li") == ["1", "2", "3"]
    assert len([request for request in proxy.requests if request.path.endswith(POLYFILL)]) == 1
    assert all(
        "Failed to load resource" in complaint or complaint == "network error" for complaint in complaints
    )
    complaints.clear()
