"""One stream for all tabs of a profile in Firefox, and none for whom it is not."""

import time
from collections.abc import Callable

import pytest

from tests.browser.conftest import Site
from tests.browser.firefox.conftest import finish, texts, wait_for_state
from tests.browser.firefox.pages import Page, Profile
from tests.browser.proxy import Proxy
from tests.browser.test_stream import LOG, ROWS

pytestmark = pytest.mark.browser

#: Notes whether the page was kept for the back button when it is shown again.
NOTE_KEPT = "addEventListener('pageshow', ({ persisted }) => { window.kept = persisted; });"
#: A page of Firefox is there within this many seconds, however many there are.
PROMPT = 2.0
#: A worker whose script is not there. (The proxy cannot hide it: the browser has it already, for the page.)
NO_WORKER = """
const Original = window.SharedWorker;
window.SharedWorker = function (script, options) { return new Original("/nowhere.js", options); };
"""


def open_promptly(page: Page, site: Site, body: str = LOG) -> None:
    """Open a page, which is soon live."""
    site.write(body)
    began = time.monotonic()
    page.goto(site.url)
    wait_for_state(page, "open")
    assert time.monotonic() - began < PROMPT


def test_twelve_tabs(profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """Twelve tabs of twelve topics are served by one stream, each at once, each with its own events."""
    sites = [Site(base_url=proxied.base_url) for _ in range(12)]
    pages = [profile.new_page() for _ in sites]
    for page, site in zip(pages, sites, strict=True):
        open_promptly(page, site)
    proxy.wait_for(lambda: len(proxy.open_streams) == 1)
    (stream,) = proxy.open_streams
    assert set(stream.query["topic"]) == {site.topic for site in sites}
    for number, site in enumerate(sites):
        site.add(pk=number, text=str(number))
    for number, (page, site) in enumerate(zip(pages, sites, strict=True)):
        finish(site, page)
        assert texts(page, "li") == [str(number)]
    assert proxy.most_at_once() <= 2, "a stream with more topics takes the place of the one before"


def test_twelve_page_views(page: Page, profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """Twelve pages in one tab, kept for the back button, never have more than one stream, and none waits."""
    profile.add_init_script(NOTE_KEPT)
    for _ in range(12):
        site = Site(base_url=proxied.base_url)
        open_promptly(page, site)
        finish(site, page)  # what is still under way to a page when it is left may keep it from being kept
    assert proxy.most_at_once() <= 1
    page.go_back()
    page.wait_for_function("window.kept")
    page.go_back()
    page.wait_for_function("window.kept")
    wait_for_state(page, "open")
    assert proxy.most_at_once() <= 1


def test_back_button(page: Page, profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """A page that was kept goes on where it was when it is shown again."""
    profile.add_init_script(NOTE_KEPT)
    open_promptly(page, proxied)
    page.evaluate("() => { window.mark = 'as it was'; }")
    proxied.add(pk=1, text="before")
    finish(proxied, page)
    page.goto(f"{proxied.base_url}/closings/{proxied.topic}/")
    proxied.add(pk=2, text="meanwhile")
    page.go_back()
    page.wait_for_function("window.kept")
    proxied.add(pk=3, text="after")
    finish(proxied, page)
    assert page.evaluate("window.mark") == "as it was"
    assert texts(page, "li") == ["before", "meanwhile", "after"]
    assert proxy.most_at_once() <= 1


def test_back_button_without_worker(page: Page, profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """Firefox keeps no page that has a stream of its own: it is loaded anew, and catches up."""
    profile.add_init_script(NO_WORKER + NOTE_KEPT)
    open_promptly(page, proxied)
    proxied.add(pk=1, text="before")
    finish(proxied, page)
    page.goto(f"{proxied.base_url}/closings/{proxied.topic}/")
    proxy.wait_for(lambda: not proxy.open_streams)
    proxied.add(pk=2, text="meanwhile")
    page.go_back()
    wait_for_state(page, "open")
    proxied.add(pk=3, text="after")
    finish(proxied, page)
    assert page.evaluate("window.kept") is False
    assert texts(page, "li") == ["before", "meanwhile", "after"]
    assert proxy.most_at_once() <= 1


def test_a_tab_that_comes_from_elsewhere(page: Page, profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """The worker sleeps while its only page is kept; the next page wakes it, and misses nothing."""
    open_promptly(page, proxied, ROWS)
    page.goto(f"{proxied.base_url}/closings/{proxied.topic}/")
    proxied.add(pk=1, text="meanwhile")
    open_promptly(page, proxied, ROWS)
    proxied.add(pk=2, text="after")
    finish(proxied, page)
    assert texts(page, "li") == ["meanwhile", "after"]
    assert proxy.most_at_once() <= 1


@pytest.mark.parametrize("fault", [Proxy.drop, Proxy.silence])
def test_a_worker_that_slept(
    page: Page, profile: Profile, proxied: Site, proxy: Proxy, fault: Callable[[Proxy], None]
) -> None:
    """What became of the connection while the worker slept is noticed when it is awake."""
    profile.add_init_script(NOTE_KEPT)
    open_promptly(page, proxied)
    proxied.add(pk=1, text="before")
    finish(proxied, page)
    page.goto(f"{proxied.base_url}/closings/{proxied.topic}/")
    fault(proxy)
    proxied.add(pk=2, text="meanwhile")
    page.go_back()
    page.wait_for_function("window.kept")
    finish(proxied, page)
    assert texts(page, "li") == ["before", "meanwhile"]
    assert len(proxy.streams) == 2


def test_two_users(page: Page, profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """A second user of the same profile has a stream of their own, while the first one's page is open."""
    proxied.write('<ol data-sse-on="note news" data-sse-swap="append"></ol>')
    other = profile.new_page()
    for pk, tab in ((81, page), (82, other)):
        tab.goto(f"{proxied.base_url}/closings/{proxied.topic}/")
        tab.evaluate(f"fetch('/sign-in/{pk}/', {{ method: 'POST' }}).then(() => 0)")
        tab.goto(proxied.url)
        wait_for_state(tab, "open")
    assert len(proxy.open_streams) == 2
    for pk in (81, 82):
        proxied.send("note", f"for {pk}", to=pk)
    proxied.send("news", "for all")
    for own, tab in (("for 81", page), ("for 82", other)):
        tab.wait_for_function("document.querySelectorAll('li').length === 2")
        finish(proxied, tab)
        assert sorted(texts(tab, "li")) == [own, "for all"]


def test_no_worker_script(page: Page, profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """Where the worker's script cannot be had, each page has a stream of its own within 5 s."""
    profile.add_init_script(NO_WORKER)
    for tab, site in ((page, proxied), (profile.new_page(), Site(base_url=proxied.base_url))):
        site.write(LOG)
        tab.goto(site.url)
        wait_for_state(tab, "open", within=5)
        site.add(pk=1, text="here")
        finish(site, tab)
        assert texts(tab, "li") == ["here"]
    assert len(proxy.open_streams) == 2
    assert [request.status for request in proxy.requests_of("/nowhere.js")] == [404, 404]
