"""The demo as people see it: what one browser does, another one shows."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import texts, wait_for_state
from tests.servers.process import ROOT, ServerProcess

pytestmark = pytest.mark.browser
SCENES = ("prices", "news", "scores", "feed", "machine", "job", "words", "break-it")


class Form(HTMLParser):
    """The fields of a page's forms, and what they hold."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._text: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a field."""
        field = dict(attrs)
        name = field.get("name")
        if name and tag == "input" and field.get("type") not in {"submit", "checkbox"}:
            self.fields[name] = field.get("value") or ""
        elif name and tag == "textarea":
            self._text, self.fields[name] = name, ""

    def handle_data(self, data: str) -> None:
        """Note what a textarea holds."""
        if self._text:
            self.fields[self._text] += data

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a textarea."""
        if tag == "textarea":
            self._text = None


class Client(httpx.Client):
    """A second program that uses the demo over plain HTTP, as a browser without scripts would."""

    def submit(self, path: str, *, action: str | None = None, **fields: str) -> httpx.Response:
        """Fill in the form of a page and send it."""
        form = Form(self.get(path).raise_for_status().text).fields
        answer = self.post(action or path, data={**form, **fields})
        assert answer.status_code in {httpx.codes.FOUND, httpx.codes.NO_CONTENT}, answer.text
        return answer


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Serve the demo, with a fresh database."""
    folder = tmp_path_factory.mktemp("demo")
    settings = {
        "DJANGO_SETTINGS_MODULE": "testproject.settings",
        "DEMO_DATABASE": str(folder / "db.sqlite3"),
    }
    for command in (["migrate", "--verbosity", "0"], ["prepare"]):
        subprocess.run(
            [sys.executable, "testproject/manage.py", *command],
            cwd=ROOT,
            env=os.environ | settings,
            check=True,
            timeout=60,
        )
    with ServerProcess(kind="daphne", log=folder / "log", environment=settings) as server:
        yield server


@pytest.fixture
def editor(demo: ServerProcess) -> Iterator[Client]:
    """Sign the staff account in, outside of any browser."""
    with Client(base_url=demo.base_url, timeout=30) as client:
        client.submit("/", action="/sign-in/", account="ada")
        yield client


def show(page: Page, demo: ServerProcess, scene: str = "") -> None:
    """Open a scene, and wait until it is live."""
    page.goto(f"{demo.base_url}/{scene}")
    wait_for_state(page, "open")


def sign_in(page: Page, demo: ServerProcess, name: str, scene: str = "") -> None:
    """Open a scene and sign in there by the one click."""
    page.goto(f"{demo.base_url}/{scene}")
    page.locator(".who summary").click()
    page.locator(".who").get_by_role("button", name=name).click()
    expect(page.locator(".who summary")).to_have_text(re.compile(f"{name}$"))
    wait_for_state(page, "open")


def test_start(page: Page, other_page: Page, demo: ServerProcess, editor: Client) -> None:
    """The cards lead to the scenes, and move by themselves, over one stream."""
    show(other_page, demo)
    show(page, demo)
    expect(page.locator("sse-stream")).to_have_count(1)
    cards = page.locator("li.card")
    expect(cards).to_have_count(8)
    ticks = page.locator("li.card", has_text="Break it").locator(".ticks li")
    expect(ticks).to_have_count(5)
    editor.submit("/scores/", action="/feed/post/", text="Seen on the card.")
    for tab in (page, other_page):
        expect(tab.locator(".message").first).to_contain_text("Seen on the card.")
    cards.get_by_role("link", name="Machine").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Machine")
    page.get_by_role("link", name="See its source").click()
    expect(page.get_by_role("region").first).to_contain_text("def processor_ticks() -> tuple[int, int]:")


def test_prices(page: Page, other_page: Page, demo: ServerProcess) -> None:
    """Prices and charts move several times a second, in every browser the same ones."""
    show(other_page, demo, "prices/")
    show(page, demo, "prices/")
    moves = page.get_by_role("table").evaluate(
        """(table) => new Promise((done) => {
            let moves = 0;
            const count = (changes) => { if ((moves += changes.length) >= 100) done(moves); };
            new MutationObserver(count).observe(table, { attributes: true, childList: true, subtree: true });
            setTimeout(() => done(moves), 10000);
        })"""
    )
    assert moves >= 100, "in ten seconds"
    points = page.locator(".index polyline").get_attribute("points") or ""
    expect(page.locator(".index polyline")).not_to_have_attribute("points", points)
    seen = "(line) => new Promise((done) => { const seen = []; setInterval(() => { %s }, 20); })"
    collect = (
        "const it = line.getAttribute('points');"
        "if (it !== seen.at(-1)) seen.push(it); if (seen.length > 8) done(seen)"
    )
    mine = page.locator(".index polyline").evaluate(seen % collect)
    theirs = other_page.locator(".index polyline").evaluate(seen % collect)
    assert len(set(mine)) == len(mine) == len(theirs), "no chart is drawn twice"


def test_news(page: Page, other_page: Page, demo: ServerProcess, editor: Client) -> None:
    """What is written in the admin appears with a toast, is edited and goes, on all pages."""
    tabs = (page, other_page)
    for tab in tabs:
        show(tab, demo, "news/")
    before = page.locator(".article h3").first.text_content() or ""

    editor.submit("/admin/demo/article/add/", title="Fresh <b>news</b>", body="Written elsewhere.")
    for tab in tabs:
        article = tab.locator(".article").first
        expect(article.get_by_role("heading")).to_have_text("Fresh <b>news</b>")
        expect(article).to_contain_text("Written elsewhere.")
        expect(article.locator("time")).to_have_attribute("datetime", re.compile("^20"))
        expect(tab.locator(".sse-toast")).to_have_text("News: Fresh <b>news</b>")
        tab.get_by_role("button", name="Dismiss").click()
        expect(tab.locator(".sse-toast")).to_have_count(0)
    expect(page.locator(".article")).to_have_count(4)

    pk = (page.locator(".article").first.get_attribute("id") or "").removeprefix("article-")
    editor.submit(f"/admin/demo/article/{pk}/change/", title="Corrected news")
    for tab in tabs:
        expect(tab.locator(".article h3").first).to_have_text("Corrected news")
        expect(tab.locator(".article", has_text="Fresh")).to_have_count(0)

    editor.submit(f"/admin/demo/article/{pk}/delete/")
    for tab in tabs:
        expect(tab.locator(".article h3").first).to_have_text(before)


def test_scores(page: Page, other_page: Page, demo: ServerProcess, editor: Client) -> None:
    """Two people edit the same row at once: both browsers show each step, in order, and end alike."""
    sign_in(page, demo, "Ada", "scores/")
    show(other_page, demo, "scores/")
    expect(other_page.get_by_role("button", name=re.compile("^One more"))).to_have_count(0)
    form = Form(editor.get("/scores/").text).fields
    del form["reload"]  # which is for those without a script
    press = page.get_by_role("button", name="One more for Harvard Relays")

    def edit() -> None:
        for _ in range(10):
            answer = editor.post("/scores/2/away/more/", data=form)
            assert answer.status_code == httpx.codes.NO_CONTENT

    with ThreadPoolExecutor() as threads:
        edited = threads.submit(edit)
        for _ in range(5):
            press.click()
        edited.result()
    for tab in (page, other_page):
        expect(tab.locator("#changes li").first).to_have_text("Jacquard Weavers 0 : 15 Harvard Relays")
        expect(tab.locator(".match").nth(1).locator(".away b")).to_have_text("15")
        goals = [int(line.split(" : ")[1].split()[0]) for line in texts(tab, "#changes li")]
        assert goals == sorted(goals, reverse=True), "in order"
    assert page.url == f"{demo.base_url}/scores/", "the page stays"


def test_feed(page: Page, other_page: Page, demo: ServerProcess) -> None:
    """A message is in both browsers; who is mentioned or liked is told, alone, wherever they are."""
    sign_in(page, demo, "Ada", "feed/")
    sign_in(other_page, demo, "Grace", "feed/")
    field = page.get_by_label("Your message")
    field.fill("Tea <b>at four</b>, @grace?")
    page.get_by_role("button", name="Send").click()
    for tab in (page, other_page):
        expect(tab.locator(".message .text").first).to_have_text("Tea <b>at four</b>, @grace?")
    expect(field).to_have_value("")
    told = "Ada mentions you: Tea <b>at four</b>, @grace?"
    expect(other_page.locator(".notice").first).to_contain_text(told)
    expect(other_page.locator(".sse-toast")).to_have_text(told)

    page.goto(f"{demo.base_url}/prices/")
    wait_for_state(page, "open")
    other_page.locator(".message", has_text="Tea").get_by_role("button").click()
    expect(other_page.locator(".message", has_text="Tea").get_by_role("button")).to_have_text(
        re.compile(r"1\s*$")
    )
    expect(page.locator(".sse-toast")).to_have_text("Grace likes: Tea <b>at four</b>, @grace?")
    expect(other_page.locator(".sse-toast")).to_have_count(1)
    page.goto(f"{demo.base_url}/feed/")
    expect(page.locator(".notice")).to_have_count(1)


def test_machine(page: Page, other_page: Page, demo: ServerProcess) -> None:
    """The figures of the computer and of its process move in both browsers."""
    for tab in (page, other_page):
        show(tab, demo, "machine/")
    for tab in (page, other_page):
        expect(tab.locator(".process")).to_have_count(1)
        for line in tab.locator(".chart polyline").all()[:2]:
            points = line.get_attribute("points") or ""
            expect(line).not_to_have_attribute("points", points)
        expect(tab.locator(".process")).to_contain_text(re.compile(r"\b[2-9] open streams"))


def test_jobs(page: Page, other_page: Page, demo: ServerProcess) -> None:
    """Two jobs at once move, end as they should, and are on a page of somebody else's that comes later."""
    show(page, demo, "job/")
    expect(page.get_by_text("No job yet")).to_be_visible()
    page.get_by_role("button", name="Start a job").click()
    bars = page.get_by_role("progressbar")
    expect(bars).to_have_count(1)
    page.get_by_role("button", name="One that fails").click()
    expect(bars).to_have_count(2)
    expect(bars.last).to_have_attribute("value", re.compile(r"^[1-9]\d$"))
    show(other_page, demo, "job/")
    expect(other_page.get_by_role("progressbar")).to_have_count(2)
    for tab in (page, other_page):
        failed, done = tab.locator("#jobs .job").first, tab.locator("#jobs .job").last
        expect(done).to_have_attribute("data-state", "done", timeout=30_000)
        expect(done.get_by_role("progressbar")).to_have_js_property("value", 100)
        expect(done.locator(".digest")).to_have_text(re.compile(r"^[0-9a-f]{64}\s*$"))
        expect(failed).to_have_attribute("data-state", "failed", timeout=30_000)
        expect(failed.get_by_role("progressbar")).to_have_js_property("value", 66)
        expect(tab.get_by_role("progressbar")).to_have_count(2)
    assert page.locator("#jobs").evaluate("(list) => list.childNodes.length") < 20, "no blanks pile up"


def test_words(page: Page, demo: ServerProcess) -> None:
    """The words come one after the other, once and in order, and the stream then stays away."""
    page.goto(f"{demo.base_url}/words/")
    page.get_by_role("button", name="Fast").click()
    expect(page.locator("#answer span").nth(4)).to_have_text("no ")
    wait_for_state(page, "closed")
    text = (ROOT / "testproject" / "demo" / "texts" / "note-g.txt").read_text()
    assert "".join(texts(page, "#answer span")) == f"{text} "
    expect(page.get_by_role("progressbar")).to_have_js_property("value", 100)
    expect(page.locator("#answer")).to_have_attribute("data-reason", "end")


def numbers(page: Page) -> list[int]:
    """Return the ticks that a page shows."""
    found: list[int] = page.locator("#ticks li").evaluate_all("(all) => all.map((it) => +it.id.slice(5))")
    return found


def test_break_it(page: Page, other_page: Page, demo: ServerProcess) -> None:
    """Whatever is broken, each number comes once and in order, or its loss is told, to both browsers."""
    sign_in(page, demo, "Grace", "break-it/")
    show(other_page, demo, "break-it/")
    tabs, happened = (page, other_page), page.locator("#happened li")
    ticks = page.locator("#ticks li")
    expect(ticks).not_to_have_count(0)

    page.get_by_role("button", name="Cut the line").click()
    wait_for_state(page, "reconnecting")
    expect(happened).to_have_count(2)
    page.get_by_role("button", name="Stop the layer").click()
    silent = page.locator("#ticks [data-silent]")
    expect(silent).not_to_have_count(0)
    expect(page.locator("dd", has_text=re.compile("^[1-9]")).first).to_be_visible()
    page.get_by_role("button", name="Start the layer").click()
    expect(page.locator("#ticks [data-silent] + li:not([data-silent])")).to_have_count(1)
    for tab in tabs:
        shown = numbers(tab)
        assert shown == list(range(shown[0], shown[0] + len(shown))), "none is missing, and none comes twice"

    page.get_by_role("button", name="Fill the history").click()
    for tab in tabs:
        expect(tab.locator("#happened")).to_contain_text("Reset: some events are gone")
        expect(tab.get_by_role("status")).to_contain_text("out of date")

    with page.context.expect_page() as opened:
        page.get_by_role("button", name="Sign out in another tab").click()
    expect(opened.value.get_by_role("heading", level=1)).to_have_text("You are signed out.")
    wait_for_state(page, "denied")
    assert other_page.evaluate("sse.state") == "open"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_accessible(page: Page, demo: ServerProcess, scheme: Literal["light", "dark"], width: int) -> None:
    """A checker finds nothing wrong with any page, by day on a phone, at night on a desktop."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    sign_in(page, demo, "Ada")
    page.locator(".who summary").click()
    for path in ("", *(f"{scene}/" for scene in SCENES), "words/?speed=fast", "break-it/source/"):
        if path:
            page.goto(f"{demo.base_url}/{path}")
        if "source" not in path and path != "words/":
            page.wait_for_selector("html[data-sse]", state="attached")
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") == width, path


def test_what_goes_on(page: Page, other_page: Page, demo: ServerProcess) -> None:
    """The admin's page shows the process, its streams and why one of them ended, and goes on by itself."""
    sign_in(page, demo, "Ada")
    sign_in(other_page, demo, "Grace")
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # the admin has none
    page.goto(f"{demo.base_url}/admin/django_sse/process/")
    expect(page.get_by_role("status")).to_have_text("Live")
    process = page.locator("section.sse-process")
    expect(process).to_have_count(1)
    expect(process.locator('[data-field="topics"]')).to_contain_text(re.compile(r"prices \d, .*user\.2 \d"))
    expect(process.locator('[data-chart="streams"]')).to_have_attribute("points", re.compile(r"^0,\d+ 1,\d+"))
    other_page.locator(".who summary").click()
    other_page.get_by_role("button", name="Sign out").click()
    process.get_by_text("Why streams were ended or reset").click()
    ended = process.locator('[data-field="incidents"] tr', has_text="revoked").first
    expect(ended).to_contain_text("user.2")


def test_hostile_reports(page: Page, demo: ServerProcess) -> None:
    """Whatever another process tells is shown as text, and executed nowhere."""
    script = "document.title='executed'"
    hostile = f'<img src="x" onerror="{script}"></script><script>{script}</script>'
    report = {
        "process": hostile,
        "time": 1.0,
        "streams": 1,
        "followers": 1,
        "staleness": None,
        **dict.fromkeys(("opened", "entries", "heals", "missed", "unsent", "spills", "refusals"), hostile),
        **{name: {hostile: hostile} for name in ("ends", "resets", "topics", "users")},
        "incidents": [
            {"time": 1.0, "kind": hostile, "reason": hostile, "user": hostile, "topics": [hostile, hostile]}
        ],
    }
    body = f"event: status\ndata: {json.dumps([report])}\n\n"
    sign_in(page, demo, "Ada")
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page.route("**/process/stream/", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.goto(f"{demo.base_url}/admin/django_sse/process/")
    process = page.locator("section.sse-process")
    for name in ("process", "counted", "ends", "topics", "users"):
        expect(process.locator(f'[data-field="{name}"]')).to_contain_text(hostile)
    expect(process.locator("img, script")).to_have_count(0)
    expect(page).not_to_have_title("executed")
