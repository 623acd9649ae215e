"""The examples of the documents for each front end: what the server sends, their pages show."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from django_sse.wire import Parser
from tests.browser.axe import violations
from tests.browser.conftest import Site, texts, wait_for_state
from tests.servers.process import ROOT

pytestmark = pytest.mark.browser

PACKAGES: Final = ROOT / "tests" / "javascript" / "node_modules"
ALPINE: Final = {"alpine.min.js": PACKAGES / "alpinejs" / "dist" / "cdn.min.js"}
HTMX_2: Final = {
    "htmx.min.js": PACKAGES / "htmx2" / "dist" / "htmx.min.js",
    "htmx-sse.js": PACKAGES / "htmx-ext-sse" / "sse.js",
}
HTMX_4: Final = {
    "htmx.min.js": PACKAGES / "htmx4" / "dist" / "htmx.min.js",
    "htmx-sse.js": PACKAGES / "htmx4" / "dist" / "ext" / "hx-sse.min.js",
}
TURBO: Final = {"turbo.js": PACKAGES / "@hotwired" / "turbo" / "dist" / "turbo.es2017-esm.js"}

#: Opens an example, for which these static files are those of a project.
Open = Callable[..., None]


@pytest.fixture
def open_example(context: BrowserContext, page: Page, site: Site) -> Open:
    """Return `open_example(name, files, query)`: the example in the tab, connected where it has the tag."""

    def serve(route: Route, files: dict[str, Path]) -> None:
        file = files.get(route.request.url.rpartition("/")[2])
        route.fulfill(path=file) if file else route.fallback()

    def open_it(name: str, files: dict[str, Path] | None = None, query: str = "") -> None:
        context.route("**/static/*.js", lambda route: serve(route, files or {}))
        page.goto(f"{site.base_url}/examples/{name}/{site.topic}/{query}")
        if page.locator("sse-stream").count():
            wait_for_state(page, "open")

    return open_it


def test_html(page: Page, site: Site, open_example: Open) -> None:
    """Without JavaScript of its own: a value, a list whose items come, change and go, and a fragment."""
    open_example("html")
    site.send_all(
        {"event": "price", "data": {"each": 3}},
        {"event": "order-created", "data": {"pk": 2, "customer": "<b>Bob", "status": "new"}},
        {"event": "order-updated", "data": {"pk": 2, "customer": "<b>Bob", "status": "paid"}},
        {"event": "order-deleted", "data": {"pk": 1}},
    )
    site.send_html("<p>{{ text }}</p>", context={"text": "<i>Hello"}, target="#messages")

    expect(page.locator("#messages p")).to_have_text("<i>Hello")
    assert texts(page, "p b") == ["3"]
    assert texts(page, "li") == ["<b>Bob: paid"]
    assert violations(page) == []


@pytest.mark.parametrize("files", [HTMX_2, HTMX_4], ids=["2", "4"])
def test_htmx(page: Page, site: Site, open_example: Open, files: dict[str, Path]) -> None:
    """An event makes htmx ask, and what a fragment brings is htmx's own."""
    open_example("htmx", files)
    site.send("order-created", {"pk": 2})
    expect(page.locator("p")).to_have_text("2 orders")

    site.send_html('<button hx-get="/order-count/">How many?</button>', target="#orders")
    page.get_by_role("button").click()
    expect(page.get_by_role("button")).to_have_text("2 orders")
    assert violations(page) == []


@pytest.mark.parametrize(("name", "files"), [("htmx-2", HTMX_2), ("htmx-4", HTMX_4)], ids=["2", "4"])
def test_streams_of_htmx(
    page: Page, site: Site, open_example: Open, name: str, files: dict[str, Path]
) -> None:
    """Over a stream of htmx's own: an event makes it ask, and fragments go where they say, and are htmx's."""
    open_example(name, files)
    site.send("order-created", {"pk": 2})
    expect(page.locator("p")).to_have_text("2 orders")

    site.send_html('<button id="ask" hx-get="/order-count/">How many?</button>', target="#orders")
    page.get_by_role("button").click()
    expect(page.get_by_role("button")).to_have_text("2 orders")
    site.send_html('<b id="ask">{{ text }}</b>', context={"text": "<i>"}, target="#ask", swap="replace")
    expect(page.locator("#orders")).to_have_text("<i>")
    site.send_html(None, target="p", swap="remove")
    expect(page.locator("p")).to_have_count(0)
    assert page.locator("#orders").inner_html() == '<b id="ask">&lt;i&gt;</b>'
    assert violations(page) == []


def test_turbo(page: Page, site: Site, open_example: Open) -> None:
    """After a visit of Turbo's the page is connected, and still the same one; a fragment may be Turbo's."""
    open_example("turbo", TURBO)
    page.evaluate("window.same = true")
    page.get_by_role("link").click()
    page.wait_for_url("**/?page=2")
    wait_for_state(page, "open")
    site.send("price", {"each": 3})
    expect(page.locator("p b")).to_have_text("3")

    site.send_html(
        '<turbo-stream action="append" target="orders"><template><p>2</p></template></turbo-stream>',
        target="body",
    )
    expect(page.locator("#orders p")).to_have_text("2")
    assert violations(page) == []
    assert page.evaluate("window.same")
    assert page.locator("sse-stream").count() == 1


@pytest.mark.parametrize(("name", "files"), [("htmx-2", HTMX_2), ("htmx-4", HTMX_4)], ids=["2", "4"])
def test_resets_of_htmx(page: Page, open_example: Open, name: str, files: dict[str, Path]) -> None:
    """Where what was missed cannot be brought, htmx asks anew."""
    open_example(name, files, "?cursor=nonsense")
    expect(page.locator("p")).to_have_text("2 orders")


def test_streams_of_turbo(page: Page, site: Site, open_example: Open) -> None:
    """Over a stream of Turbo's own fragments go where they say, and one with an id stays one."""
    open_example("turbo-source", TURBO)
    for text in ("<i>old", "<i>new"):
        site.send_html('<p id="order-2">{{ text }}</p>', context={"text": text}, target="#orders")
    expect(page.locator("#orders")).to_have_text("<i>new")
    assert violations(page) == []
    site.send_html(None, target="#order-2", swap="remove")
    expect(page.locator("#orders p")).to_have_count(0)


def test_alpine(page: Page, site: Site, open_example: Open) -> None:
    """Events are Alpine's as those of the DOM are, and what a fragment brings is set up."""
    open_example("alpine", ALPINE)
    site.send_all(
        {"event": "price", "data": {"each": 3}},
        {"event": "order-created", "data": {"pk": 2, "customer": "<b>Bob"}},
    )
    expect(page.locator("li")).to_have_text("<b>Bob")
    assert texts(page, "p") == ["Ten cost 30.00 today.", ""]

    site.send_html('<button @click="price = 4">Four</button>', target="#messages")
    page.get_by_role("button").click()
    expect(page.locator("p b")).to_have_text("40.00")
    assert violations(page) == []


def test_datastar(site: Site) -> None:
    """The address in Datastar's example, asked for as Datastar does, brings what it puts into the page."""
    example = site.get(f"examples/datastar/{site.topic}/")
    (address,) = re.findall(r"@get\('/(.+)'\)", html.unescape(example))
    site.send_html("<p>2</p>", target="#orders")
    parser = Parser()
    with httpx.stream("GET", f"{site.base_url}/{address}", headers={"Datastar-Request": "true"}) as response:
        messages = (message for chunk in response.iter_bytes() for message in parser.feed(chunk))
        message = next(message for message in messages if not message.name.startswith("sse-"))

    assert message.name == "datastar-patch-elements"
    assert message.text.splitlines() == ["mode append", "selector #orders", "elements <p>2</p>"]
