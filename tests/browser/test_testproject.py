"""The demo as people see it: two browsers, and an editor at work in Django's admin."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Literal

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import wait_for_state
from tests.servers.process import ROOT, ServerProcess

pytestmark = pytest.mark.browser


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
        assert answer.status_code == httpx.codes.FOUND, answer.text
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


def sign_in(page: Page, demo: ServerProcess, name: str) -> None:
    """Open the page and sign in by the one click."""
    page.goto(demo.base_url)
    page.get_by_role("button", name=f"Sign in as {name}").click()
    expect(page.get_by_text(f"Signed in as {name}")).to_be_visible()
    wait_for_state(page, "open")


def articles(page: Page) -> Locator:
    """Return the articles, newest first."""
    return page.get_by_role("log", name="News").get_by_role("listitem")


def headlines(page: Page) -> Locator:
    """Return the titles of the articles, newest first."""
    return articles(page).get_by_role("heading")


def notes(page: Page) -> Locator:
    """Return the notes, newest first."""
    return page.get_by_role("log", name="Notes").get_by_role("listitem")


def test_article_in_the_admin(page: Page, demo: ServerProcess, editor: Client) -> None:
    """What a second client writes, edits and deletes in the admin appears, changes and goes in the page."""
    page.goto(demo.base_url)
    wait_for_state(page, "open")
    before = headlines(page).first.text_content() or ""

    editor.submit("/admin/demo/article/add/", title="Fresh <b>news</b>", body="Written elsewhere.")
    article = articles(page).first
    expect(article.get_by_role("heading")).to_have_text("Fresh <b>news</b>")
    expect(article.get_by_text("Written elsewhere.")).to_be_visible()

    pk = (article.get_attribute("id") or "").removeprefix("article-")
    editor.submit(f"/admin/demo/article/{pk}/change/", title="Corrected news")
    expect(headlines(page).first).to_have_text("Corrected news")
    expect(headlines(page).get_by_text("Fresh")).to_have_count(0)

    editor.submit(f"/admin/demo/article/{pk}/delete/")
    expect(headlines(page).first).to_have_text(before)


def test_note_to_one_user(page: Page, other_page: Page, demo: ServerProcess, editor: Client) -> None:
    """A note to one user is not on the other's page; a later event that both must receive is on both."""
    sign_in(page, demo, "Ada")
    sign_in(other_page, demo, "Grace")

    editor.submit("/", action="/notes/", to="grace", text="For Grace alone.")
    editor.submit("/", action="/notes/", to="ada", text="For Ada alone.")
    editor.submit("/admin/demo/article/add/", title="For everybody")

    for tab, own in ((page, "For Ada alone."), (other_page, "For Grace alone.")):
        expect(headlines(tab).first).to_have_text("For everybody")
        expect(notes(tab)).to_have_count(1)
        expect(notes(tab).get_by_text(own)).to_be_visible()
    expect(page.get_by_text("For Grace alone.")).to_have_count(0)
    expect(other_page.get_by_text("For Ada alone.")).to_have_count(0)


def test_prices(page: Page, demo: ServerProcess) -> None:
    """The prices move several times a second."""
    page.goto(demo.base_url)
    moves = page.get_by_role("table").evaluate(
        """(table) => new Promise((done) => {
            let moves = 0;
            const count = (changes) => { if ((moves += changes.length) >= 20) done(moves); };
            new MutationObserver(count).observe(table, { childList: true, subtree: true });
            setTimeout(() => done(moves), 10000);
        })"""
    )
    assert moves >= 20, "in ten seconds"


def test_long_jobs(page: Page, other_page: Page, demo: ServerProcess) -> None:
    """Two jobs at once move, end as they should, and are on a page of somebody else's that comes later."""
    page.goto(demo.base_url)
    page.get_by_role("link", name="A long job").click()
    wait_for_state(page, "open")
    expect(page.get_by_text("No job yet")).to_be_visible()
    page.get_by_role("button", name="Start a job").click()
    expect(page.locator(".job", has_text="Job 1, for a visitor")).to_have_attribute("data-state", "running")
    page.get_by_role("button", name="One that fails").click()

    bar = page.get_by_role("progressbar", name="Job 1, for a visitor")
    expect(bar).to_have_attribute("value", re.compile(r"^[1-9]\d$"))
    sign_in(other_page, demo, "Grace")
    other_page.get_by_role("link", name="A long job").click()
    expect(other_page.get_by_role("progressbar")).to_have_count(2)

    for tab in (page, other_page):
        done = tab.locator(".job", has_text="Job 1,")
        expect(done).to_have_attribute("data-state", "done", timeout=30_000)
        expect(done.get_by_role("progressbar")).to_have_js_property("value", 100)
        expect(done.locator(".digest")).to_have_text(re.compile("[0-9a-f]{64}"))
        failed = tab.locator(".job", has_text="Job 2,")
        expect(failed).to_have_attribute("data-state", "failed", timeout=30_000)
        expect(failed.get_by_role("progressbar")).to_have_js_property("value", 66)
        expect(tab.get_by_role("progressbar")).to_have_count(2)
    expect(page.get_by_role("status").filter(has_text="Job 1, for a visitor: done.")).to_be_visible()
    assert page.locator("#jobs").evaluate("(list) => list.childNodes.length") < 20, "no blanks pile up"


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(
    page: Page, demo: ServerProcess, editor: Client, scheme: Literal["light", "dark"]
) -> None:
    """A checker finds nothing wrong with the pages: for nobody and for a user, by day and by night."""
    page.emulate_media(color_scheme=scheme)
    page.goto(demo.base_url)
    wait_for_state(page, "open")
    assert violations(page) == []

    sign_in(page, demo, "Grace")
    editor.submit("/", action="/notes/", to="grace", text="For Grace.")
    editor.submit("/admin/demo/article/add/", title="For everybody")
    expect(headlines(page).first).to_have_text("For everybody")
    expect(notes(page)).not_to_have_count(0)
    assert violations(page) == []

    page.get_by_role("link", name="A long job").click()
    wait_for_state(page, "open")
    page.get_by_role("button", name="Start a job").click()
    expect(page.get_by_role("progressbar")).not_to_have_count(0)
    assert violations(page) == []
