"""What the tests in Firefox rely on: a page's answers, its complaints, and the cache of the back button."""

import pytest

from tests.browser.conftest import Site
from tests.browser.firefox.conftest import finish, fresh, texts
from tests.browser.firefox.connection import Connection
from tests.browser.firefox.pages import Page, Profile, ScriptError

pytestmark = pytest.mark.browser


def test_an_event(page: Page, site: Site) -> None:
    """An event becomes text in a page of Firefox."""
    site.write('<b data-sse-on="news">old</b>')
    page.goto(site.url)
    site.send("news", "<i>new</i>")
    finish(site, page)
    assert texts(page, "b") == ["<i>new</i>"]


def test_answers(page: Page) -> None:
    """An expression, a function with its argument and a promise have their values; what throws says so."""
    assert page.evaluate("[1, 'ü\\u2028', null]") == [1, "ü\u2028", None]
    assert page.evaluate("({ a }) => Promise.resolve(a + 1)", {"a": 1}) == 2
    with pytest.raises(ScriptError, match="it is broken"):
        page.evaluate("() => { throw new Error('it is broken'); }")
    with pytest.raises(TimeoutError, match="not true"):
        page.wait_for_function("false", within=0)


def test_complaints(firefox: Connection, profile: Profile, site: Site) -> None:
    """Errors of a page, those that nobody catches too, are complaints of its own profile alone."""
    with fresh(firefox) as other:
        page = other.new_page()
        page.goto(f"{site.base_url}/closings/{site.topic}/")
        page.evaluate("() => { setTimeout(() => { console.error('said'); throw new Error('thrown'); }); }")
        page.wait_for_function("new Promise((done) => setTimeout(done, 0, true))")
        assert other.complaints == ["said", "Error: thrown"]
    assert profile.complaints == []


def test_back(page: Page, profile: Profile, site: Site) -> None:
    """The back button shows a page as it was left; a script of the test's own runs once in each."""
    profile.add_init_script("addEventListener('pageshow', ({ persisted }) => { window.kept = persisted; });")
    page.goto(f"{site.base_url}/closings/{site.topic}/")
    assert page.evaluate("window.kept") is False
    page.evaluate("() => { window.mark = 'of the first page'; }")
    page.goto(f"{site.base_url}/closings/another/")
    page.go_back()
    page.wait_for_function("window.kept")
    assert page.evaluate("window.mark") == "of the first page"
