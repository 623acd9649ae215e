"""Chromium, and the site whose pages it opens."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.browser.everyday import everyday_chromium
from tests.browser.proxy import Proxy
from tests.servers.process import Serve, ServerProcess

ARGUMENTS = (
    "--no-sandbox",  # it would need privileges that containers do not have
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SITE: Any = {
    "application": "tests.browser.site.asgi:application",
    "settings": "tests.browser.site.settings",
}
BAD = {"error", "warning"}
#: Milliseconds that Playwright waits for what must come.
PATIENCE = 10_000
NewTab = Callable[[], Page]
expect.set_options(timeout=PATIENCE)


# One for the package, not for the session: while it lives, Playwright's event loop counts as running in this
# thread, and asynchronous tests elsewhere could not start theirs.
@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """Start Playwright."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def program() -> str:
    """Find this machine's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("there is no chromium here: install it (on Debian: apt-get install chromium)")
    return program


@pytest.fixture(scope="package")
def chromium(playwright: Playwright, program: str) -> Iterator[Browser]:
    """Start Chromium, without a window."""
    # Playwright switches the back/forward cache off; people have it on.
    browser = playwright.chromium.launch(
        executable_path=program, args=ARGUMENTS, ignore_default_args=["--disable-back-forward-cache"]
    )
    yield browser
    browser.close()


@pytest.fixture(scope="package")
def everyday_browser(
    playwright: Playwright, program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    """Start a Chromium that hides tabs in the background."""
    with everyday_chromium(playwright, program, ARGUMENTS, tmp_path_factory.mktemp("profile")) as context:
        context.set_default_timeout(PATIENCE)
        yield context


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One test's part of the site: a topic, and the page of that topic."""

    base_url: str
    topic: str = field(default_factory=lambda: uuid4().hex)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"{self.base_url}/pages/{self.topic}/"

    def write(self, body: str) -> None:
        """Make the page, whose body is this Django template with the tag behind it."""
        self._post(f"pages/{self.topic}/", content=body)

    def open(self, page: Page, body: str = "") -> None:
        """Make the page, and open it in a tab."""
        self.write(body)
        page.goto(self.url)

    def finish(self, page: Page) -> None:
        """Wait until everything sent before is shown: the events of a topic come in order."""
        page.evaluate("document.documentElement.id = 'unfinished'")
        self.send("finish")
        # Not wait_for_function(), which a page's security policy may forbid to evaluate anything.
        expect(page.locator("html#finished")).to_be_attached(timeout=30_000)

    def send(self, event: str, data: object = None, **others: Any) -> None:
        """Send one event to the topic, or to others that are named as `to`."""
        self.send_all({"event": event, "data": data, **others})

    def send_all(self, *events: Mapping[str, Any]) -> None:
        """Send several events at once."""
        self._post("send/", json=[{"to": self.topic, **event} for event in events])

    def send_html(self, template: str | None, **others: Any) -> None:
        """Send a fragment of this template to the topic, or to others that are named as `to`."""
        self._post("send-html/", json={"to": self.topic, "template": template, **others})

    def add(self, **row: Any) -> None:
        """Add a row to the list that the page's view reads."""
        self._post(f"rows/{self.topic}/", json=row)

    def get(self, path: str) -> str:
        """Return what the site answers."""
        return httpx.get(f"{self.base_url}/{path}").raise_for_status().text

    def streams(self) -> tuple[int, int]:
        """Return how many streams of the topic have begun, and how many of them are open."""
        counts = json.loads(self.get(f"streams/{self.topic}/"))
        return counts["begun"], counts["open"]

    def _post(self, path: str, **body: Any) -> None:
        httpx.post(f"{self.base_url}/{path}", **body).raise_for_status()


@pytest.fixture(scope="package")
def site_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve the site to all tests that need no settings of their own."""
    with ServerProcess(kind="daphne", log=tmp_path_factory.mktemp("site") / "log", **SITE) as server:
        yield server


@pytest.fixture
def site(site_server: ServerProcess) -> Iterator[Site]:
    """Give the test a part of the site."""
    yield Site(base_url=site_server.base_url)
    print(site_server.tail())  # pytest shows it where the test failed


@pytest.fixture(scope="package")
def brisk_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve the site with a heart that beats every second."""
    log = tmp_path_factory.mktemp("brisk") / "log"
    environment = {"SITE_SSE": json.dumps({"HEARTBEAT": 1})}
    with ServerProcess(kind="daphne", log=log, environment=environment, **SITE) as server:
        yield server


@pytest.fixture
def proxy(brisk_server: ServerProcess) -> Iterator[Proxy]:
    """Put a proxy before the brisk site."""
    with Proxy(brisk_server.port) as proxy:
        yield proxy
    print(brisk_server.tail())


@pytest.fixture
def proxied(proxy: Proxy) -> Site:
    """Give the test a part of the brisk site, behind its proxy."""
    return Site(base_url=proxy.base_url)


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """Make a fresh browser profile."""
    with profile(chromium) as context:
        yield context


@pytest.fixture
def complaints() -> list[str]:
    """List what the pages complain of; a test that expects complaints takes them out."""
    return []


@pytest.fixture
def everyday(everyday_browser: BrowserContext, proxy: Proxy, complaints: list[str]) -> Iterator[NewTab]:
    """Return `everyday()`: it opens a tab, in front of the others, which may not complain."""
    everyday_browser.clear_cookies()
    yield lambda: new_page(everyday_browser, complaints)
    for page in everyday_browser.pages[1:]:
        page.close()
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext, complaints: list[str]) -> Iterator[Page]:
    """Open a tab, which must end without complaints: of the console, uncaught errors, its policy."""
    yield new_page(context, complaints)
    assert complaints == []


@pytest.fixture
def other_page(chromium: Browser, page: Page, complaints: list[str]) -> Iterator[Page]:
    """Open a tab of another person, under the same demand."""
    with profile(chromium) as context:
        yield new_page(context, complaints)


def serve_site(serve: Serve, **settings: Any) -> ServerProcess:
    """Serve the site to one test, with these keys of DJANGO_SSE."""
    return serve("daphne", **SITE, environment={"SITE_SSE": json.dumps(settings)})


@contextmanager
def profile(chromium: Browser) -> Iterator[BrowserContext]:
    """Make a fresh browser profile, and close it."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


def new_page(context: BrowserContext, complaints: list[str]) -> Page:
    """Open a tab whose complaints are noted."""
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type in BAD else None)
    return page


def texts(page: Page, selector: str) -> list[str]:
    """Return the texts of elements as they are now, in the page's order."""
    return page.locator(selector).all_text_contents()


def wait_for_state(page: Page, state: str) -> None:
    """Wait until a page shows this state of its streams."""
    page.wait_for_selector(f"html[data-sse='{state}']", state="attached")


def requests_of(page: Page, part: str) -> list[str]:
    """Return a list that grows with each URL of this part that a page asks for from now on."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url) if part in request.url else None)
    return urls
