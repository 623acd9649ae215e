"""One stream serves all tabs of a browser: however many, in front or behind, kept, frozen or come back."""

import time
from collections.abc import Sequence

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import SITE, NewTab, Site, texts, wait_for_state
from tests.browser.everyday import kill, live, workers
from tests.browser.proxy import Proxy
from tests.browser.test_stream import LOG
from tests.servers.process import Serve, ServerProcess

pytestmark = pytest.mark.browser

#: Seconds after which a page is slow to load.
SLOW = 2
#: Seconds after which a stream that was well comes back at the latest.
LONGEST = 1.2
LOADED = "() => performance.getEntriesByType('navigation')[0].loadEventEnd / 1000"


def sites(proxy: Proxy, count: int) -> list[Site]:
    """Return parts of a site, each with a page that logs its rows."""
    made = [Site(base_url=proxy.base_url) for _ in range(count)]
    for site in made:
        site.write(LOG)
    return made


def visit(page: Page, site: Site) -> None:
    """Open a page, in time, whose stream opens."""
    page.goto(site.url)
    assert page.evaluate(LOADED) < SLOW
    wait_for_state(page, "open")


def add(site: Site, *numbers: int) -> None:
    """Add a row for each number."""
    for number in numbers:
        site.add(pk=number, text=str(number))


def expect_rows(page: Page, numbers: Sequence[int]) -> None:
    """Wait until a page has shown these rows, in order, each once."""
    expect(page.locator("li")).to_have_text([str(number) for number in numbers])


def test_twelve_tabs(everyday: NewTab, proxy: Proxy) -> None:
    """Twelve tabs of twelve topics load at once and share one stream; each shows its own topic's events."""
    tabs = [(everyday(), site) for site in sites(proxy, 12)]
    for page, site in tabs:
        visit(page, site)
    proxy.wait_for(lambda: len(proxy.open_streams) == 1)
    assert sorted(proxy.open_streams[0].query["topic"]) == sorted(site.topic for _, site in tabs)
    for number, (_, site) in enumerate(tabs):
        add(site, number)
    for number, (page, site) in enumerate(tabs):
        site.finish(page)
        assert texts(page, "li") == [str(number)]
    assert len(proxy.open_streams) == 1
    assert proxy.most_at_once() == 1


def test_twelve_views(everyday: NewTab, proxy: Proxy) -> None:
    """Twelve pages in one tab, which are kept for the back button, never hold two streams at a time."""
    page = everyday()
    seen = sites(proxy, 12)
    for number, site in enumerate(seen):
        visit(page, site)
        page.evaluate("kept = true")
        add(site, number)
        expect_rows(page, [number])
    for number, site in reversed(list(enumerate(seen))[-4:-1]):
        page.go_back(wait_until="commit")
        assert page.evaluate("kept"), "the browser did not keep the page"
        add(site, 100 + number)
        expect_rows(page, [number, 100 + number])
    assert proxy.most_at_once() == 1


def test_frozen_beside_others(everyday: NewTab, proxy: Proxy) -> None:
    """What came while a tab was frozen, and the stream went on for another tab, is shown at its thaw."""
    (site,) = sites(proxy, 1)
    frozen, other = everyday(), everyday()
    for page in (frozen, other):
        visit(page, site)
    add(site, 1)
    expect_rows(frozen, [1])
    live(frozen, "frozen")
    add(site, 2, 3)
    expect_rows(other, [1, 2, 3])
    live(frozen, "active")
    add(site, 4)
    for page in (frozen, other):
        site.finish(page)
        expect_rows(page, [1, 2, 3, 4])
    assert len(proxy.streams) == 1


def test_frozen_alone(everyday: NewTab, proxy: Proxy) -> None:
    """A frozen tab holds no stream for long, and what came meanwhile is shown at its thaw."""
    (site,) = sites(proxy, 1)
    page = everyday()
    visit(page, site)
    add(site, 1)
    expect_rows(page, [1])
    live(page, "frozen")
    add(site, 2)
    proxy.wait_for(lambda: not proxy.open_streams)
    add(site, 3)
    live(page, "active")
    add(site, 4)
    site.finish(page)
    expect_rows(page, [1, 2, 3, 4])
    assert proxy.most_at_once() == 1


@pytest.mark.parametrize("quick", [True, False])
def test_back_button(everyday: NewTab, proxy: Proxy, quick: bool) -> None:  # noqa: FBT001  (a parameter)
    """A page kept for the back button goes on where it was, whether its stream has waited for it or not."""
    (site,) = sites(proxy, 1)
    page = everyday()
    visit(page, site)
    add(site, 1)
    expect_rows(page, [1])
    page.evaluate("addEventListener('pageshow', ({ persisted }) => { kept = persisted; })")
    page.goto(f"{site.base_url}/closings/{site.topic}/")
    add(site, 2)
    if not quick:
        proxy.wait_for(lambda: not proxy.open_streams)
    add(site, 3)
    page.go_back(wait_until="commit")
    page.wait_for_function("kept")
    add(site, 4)
    site.finish(page)
    expect_rows(page, [1, 2, 3, 4])
    assert proxy.most_at_once() == 1
    assert len(proxy.streams) == (1 if quick else 2)


#: No workers, and minutes that take a moment.
ALONE = """
    delete window.SharedWorker;
    const really = setTimeout;
    window.setTimeout = (act, delay) => really(act, delay === 60000 ? 100 : delay);
"""


def test_a_hidden_tab(everyday: NewTab, proxy: Proxy) -> None:
    """Where there are no workers, a tab that has been hidden for a minute has no stream until it is shown."""
    (site,) = sites(proxy, 1)
    page = everyday()
    page.add_init_script(ALONE)
    visit(page, site)
    add(site, 1)
    expect_rows(page, [1])
    everyday()
    proxy.wait_for(lambda: not proxy.open_streams)
    assert page.evaluate("document.hidden")
    add(site, 2)
    page.bring_to_front()
    add(site, 3)
    expect_rows(page, [1, 2, 3])
    assert len(proxy.streams) == 2


def test_nobody_is_left(everyday: NewTab, proxy: Proxy) -> None:
    """A stream that waits for the next page, and breaks, comes back with that page only."""
    (site,) = sites(proxy, 1)
    page = everyday()
    visit(page, site)
    add(site, 1)
    expect_rows(page, [1])
    page.goto(f"{site.base_url}/closings/{site.topic}/")
    proxy.drop()
    dropped = time.monotonic()
    proxy.wait_for(lambda: time.monotonic() > dropped + 2 * LONGEST)
    assert len(proxy.streams) == 1
    page.go_back(wait_until="commit")
    add(site, 2)
    expect_rows(page, [1, 2])
    assert len(proxy.streams) == 2


def test_a_worker_that_dies(everyday: NewTab, proxy: Proxy) -> None:
    """Where the browser ends the worker, its tabs have another within 35 seconds, and lose nothing."""
    (site,) = sites(proxy, 1)
    tabs = [everyday(), everyday()]
    for page in tabs:
        visit(page, site)
    add(site, 1)
    for page in tabs:
        expect_rows(page, [1])
    browser = tabs[0].context.browser
    assert browser is not None
    (worker,) = workers(browser, site.base_url)
    kill(browser, worker)
    proxy.wait_for(lambda: not proxy.open_streams)
    died = time.monotonic()
    add(site, 2)
    for page in tabs:
        expect(page.locator("li")).to_have_text(["1", "2"], timeout=35_000)
    assert time.monotonic() - died < 35
    assert len(proxy.open_streams) == 1


def sign_in(page: Page, site: Site, pk: int) -> None:
    """Sign a user in, as another tab of the browser would."""
    page.context.request.post(f"{site.base_url}/sign-in/{pk}/")


def test_two_users(everyday: NewTab, proxy: Proxy, complaints: list[str]) -> None:
    """The next user of a browser has another stream, whose events are none of the first one's page."""
    site = Site(base_url=proxy.base_url)
    site.write('<ol data-sse-on="note" data-sse-swap="append"></ol>')
    first, second = everyday(), everyday()
    for pk, page in ((141, first), (142, second)):
        sign_in(page, site, pk)
        page.goto(site.url)
        wait_for_state(page, "open")
    proxy.wait_for(lambda: len(proxy.open_streams) == 2)
    assert len({request.query["share"][0] for request in proxy.streams}) == 2
    site.send("note", "for 141", to=141)
    site.send("note", "for 142", to=142)
    for page, own in ((first, "for 141"), (second, "for 142")):
        site.finish(page)
        assert texts(page, "li") == [own]

    proxy.drop()
    wait_for_state(first, "denied")
    wait_for_state(second, "open")
    site.send("note", "again for 142", to=142)
    site.finish(second)
    assert texts(second, "li") == ["for 142", "again for 142"]
    assert texts(first, "li") == ["for 141"]
    assert sorted(request.status or 0 for request in proxy.streams) == [200, 200, 200, 403]
    assert all("Failed to load resource" in complaint for complaint in complaints)
    complaints.clear()


@pytest.fixture
def foreign(serve: Serve, brisk_server: ServerProcess) -> ServerProcess:
    """Serve the site with its static files on another origin."""
    return serve("daphne", environment={"SITE_STATIC_URL": f"{brisk_server.base_url}/static/"}, **SITE)


#: Takes the address of the worker's script out of the page, before the script looks.
UNNAMED = """<script>
    document.onreadystatechange = () => document.querySelector("script[src]").removeAttribute("data-worker");
</script>"""


@pytest.mark.parametrize(("status", "body"), [(200, ""), (404, ""), (None, UNNAMED)])
def test_a_script_of_another_origin(
    context: BrowserContext,
    page: Page,
    foreign: ServerProcess,
    complaints: list[str],
    status: int | None,
    body: str,
) -> None:
    """The worker's script is the site's own view; where that is missing, each page has a stream in time."""
    with Proxy(foreign.port) as proxy:
        if status == 404:
            proxy.answer(404, path="/events/worker.js")
        site = Site(base_url=proxy.base_url)
        site.write(LOG + body)
        tabs = [page, context.new_page()]
        for tab in tabs:
            began = time.monotonic()
            tab.goto(site.url)
            wait_for_state(tab, "open")
            assert time.monotonic() - began < 5
        add(site, 1)
        for tab in tabs:
            expect_rows(tab, [1])
        assert len(proxy.open_streams) == (1 if status == 200 else 2)
        assert {request.status for request in proxy.requests_of("/events/worker.js")} == ({status} - {None})
    assert all("Failed to load resource" in complaint for complaint in complaints)
    complaints.clear()
