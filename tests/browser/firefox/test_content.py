"""What an event does to a page of Firefox, by each way that brings it."""

import pytest

from tests.browser.conftest import Site
from tests.browser.firefox.conftest import finish, texts, wait_for_state
from tests.browser.firefox.pages import Page, Profile
from tests.browser.proxy import Proxy, Request
from tests.browser.test_stream import LOG

pytestmark = pytest.mark.browser

PARTS = """
<b data-sse-on="news" data-sse-key="title">old</b>
<ol data-sse-on="news" data-sse-swap="append" data-sse-key="title" data-sse-max="2"></ol>
<ul><template data-sse-on="news"><li id="news-" data-sse-id="pk" data-sse-key="title"></li></template></ul>
<main></main>
"""
HOSTILE = "<img src=x onerror='window.ran = true'><script>window.ran = true</script>"
#: Adds a row while the page is read: behind its rendering, and before its tag connects.
LATER = """<script>
    const request = new XMLHttpRequest();
    request.open("POST", "/rows/{{ topic }}/", false);
    request.send('{"pk": 2, "text": "later"}');
</script>"""


def test_parts_of_a_page(page: Page, site: Site) -> None:
    """Text, lists, templates and fragments are shown."""
    site.write(PARTS)
    page.goto(site.url)
    site.send_all(*({"event": "news", "data": {"pk": pk % 2, "title": f"no. {pk}"}} for pk in range(4)))
    site.send_html("<p>{{ text }}</p>", context={"text": "a & b"}, target="main")
    finish(site, page)
    assert texts(page, "b") == ["no. 3"]
    assert texts(page, "ol li") == ["no. 2", "no. 3"]
    assert texts(page, "ul li") == ["no. 2", "no. 3"]
    assert texts(page, "main p") == ["a & b"]


def test_hostile_events(page: Page, site: Site) -> None:
    """What comes as data is text; HTML of a fragment runs no script of its own, and its data is escaped."""
    site.write(PARTS)
    page.goto(site.url)
    site.send("news", {"pk": HOSTILE, "title": HOSTILE, "__proto__": {"ran": True}})
    html = "<p>{{ text }}</p><script>window.ran = true</script>"
    site.send_html(html, context={"text": HOSTILE}, target="main")
    finish(site, page)
    assert texts(page, "b, ol li, ul li, main p") == [HOSTILE] * 4
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    page.wait_for_function("new Promise((done) => setTimeout(done, 0, true))")
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize("types", ["", "&trusted-types=django-sse"])
def test_strict_policy(page: Page, profile: Profile, site: Site, types: str) -> None:
    """Under a policy of nonces, and of trusted types, a page is live and violates nothing."""
    profile.add_init_script(
        """window.violations = [];
        addEventListener("securitypolicyviolation", ({ blockedURI }) => violations.push(blockedURI));"""
    )
    site.write(PARTS)
    page.goto(f"{site.url}?csp{types}")
    site.send("news", {"pk": 1, "title": "allowed"})
    site.send_html("<p>allowed, too</p>", target="main")
    finish(site, page)
    assert texts(page, "b, main p") == ["allowed", "allowed, too"]
    # The policy forbids images, and Firefox takes the site's icon for one.
    assert [uri for uri in page.evaluate("violations") if not uri.endswith("/favicon.ico")] == []
    profile.complaints[:] = [text for text in profile.complaints if "/favicon.ico" not in text]


def test_the_page_closes_its_gap(page: Page, profile: Profile, site: Site) -> None:
    """What was sent after the view's query, and while the page was read, is shown, once."""
    site.write("{{ add_late_row }}" + LOG + LATER)
    page.goto(site.url)
    finish(site, page)
    assert texts(page, "li") == ["late", "later"]
    # Firefox warns of requests that wait, as the page's own script makes one.
    profile.complaints[:] = [text for text in profile.complaints if "XMLHttpRequest" not in text]


def test_a_fetch_that_hangs(page: Page, proxied: Site, proxy: Proxy) -> None:
    """Where nothing comes by fetch, EventSource brings the events."""

    def by_fetch(request: Request) -> bool:
        return "envelope" not in request.query

    proxy.hold("body", when=by_fetch)
    proxied.write(LOG)
    page.goto(proxied.url)
    proxied.add(pk=1, text="first")
    page.wait_for_function("document.querySelector('li')?.textContent === 'first'", within=20)
    finish(proxied, page)
    assert [by_fetch(request) for request in proxy.streams] == [True, False]


def test_an_event_source_that_is_missing(page: Page, profile: Profile, proxied: Site, proxy: Proxy) -> None:
    """Where there is no EventSource a polyfill is fetched, and brings the events."""
    profile.add_init_script("delete window.EventSource;")
    proxied.write(LOG)
    page.goto(proxied.url)
    wait_for_state(page, "open")
    proxied.add(pk=1, text="first")
    finish(proxied, page)
    assert texts(page, "li") == ["first"]
    assert len(proxy.requests_of("/static/django_sse/vendor/eventsource.min.js")) == 1
