"""Where a browser has no EventSource, and only there, the page fetches one."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, requests_of, serve_site, texts, wait_for_state
from tests.browser.test_stream import LOG, before_script
from tests.servers.process import Serve

pytestmark = pytest.mark.browser

POLYFILL = "/eventsource.min.js"
WITHOUT = "delete window.EventSource"


def test_not_where_the_browser_has_one(page: Page, site: Site) -> None:
    """With an EventSource nothing is fetched."""
    fetched = requests_of(page, POLYFILL)
    site.open(page)
    site.finish(page)
    assert fetched == []


def test_where_it_is_missing(page: Page, site: Site) -> None:
    """Without one it is fetched once for all streams, under the policy's nonce too, and loses nothing."""
    fetched = requests_of(page, POLYFILL)
    page.add_init_script(WITHOUT)
    before_script(page, lambda: site.add(pk=2, text="later"))
    site.write("{{ add_late_row }}" + LOG + '{% sse "another" %}')
    page.goto(f"{site.url}?csp")
    site.finish(page)
    wait_for_state(page, "open")
    assert texts(page, "li") == ["late", "later"]
    assert len(fetched) == 1
    expect(page.locator(f"script[src$='{POLYFILL}']")).to_have_count(1)


def test_a_server_that_cuts(page: Page, serve: Serve) -> None:
    """The polyfill's stream, too, ends every second and loses nothing and doubles nothing."""
    site = Site(base_url=serve_site(serve, MAX_AGE=1).base_url)
    page.add_init_script(WITHOUT)
    site.open(page, LOG)
    sent = 0
    while site.streams()[0] < 3:
        sent += 1
        site.add(pk=sent, text=str(sent))
    site.finish(page)
    assert texts(page, "li") == [str(number) for number in range(1, sent + 1)]


def test_polyfill_that_cannot_be_had(page: Page, site: Site, complaints: list[str]) -> None:
    """Where the polyfill cannot be fetched either, the stream is read with fetch()."""
    page.add_init_script(WITHOUT)
    page.route(f"**{POLYFILL}", lambda route: route.abort())
    site.open(page)
    site.finish(page)
    wait_for_state(page, "open")
    assert "ERR_FAILED" in complaints.pop()
    expect(page.locator("sse-stream")).to_have_count(1)
