"""Firefox, and the profiles and tabs that a test has in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.conftest import Site
from tests.browser.firefox.connection import Connection
from tests.browser.firefox.pages import PATIENCE, Page, Profile
from tests.browser.firefox.process import Firefox


@pytest.fixture(scope="package")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """Start this machine's Firefox, without a window."""
    with Firefox(folder=tmp_path_factory.mktemp("firefox")) as connection:
        connection.command("session.subscribe", events=["log.entryAdded"])
        yield connection


@contextmanager
def fresh(connection: Connection) -> Iterator[Profile]:
    """Make a fresh profile, and close it."""
    profile = Profile(connection)
    profile.open()
    yield profile
    profile.close()


@pytest.fixture
def profile(firefox: Connection) -> Iterator[Profile]:
    """Make a fresh profile; a test that expects complaints of its tabs takes them out."""
    with fresh(firefox) as profile:
        yield profile
        assert profile.complaints == []


@pytest.fixture
def page(profile: Profile) -> Page:
    """Open a tab."""
    return profile.new_page()


def finish(site: Site, page: Page) -> None:
    """Wait until everything sent before is shown: the events of a topic come in order."""
    page.evaluate("document.documentElement.id = 'unfinished'")
    site.send("finish")
    page.wait_for_function("document.documentElement.id === 'finished'", within=30)


def texts(page: Page, selector: str) -> list[str]:
    """Return the texts of elements as they are now, in the page's order."""
    found: list[str] = page.evaluate(
        "(selector) => [...document.querySelectorAll(selector)].map((it) => it.textContent)", selector
    )
    return found


def wait_for_state(page: Page, state: str, *, within: float = PATIENCE) -> None:
    """Wait until a page shows this state of its streams."""
    is_shown = "(state) => document.documentElement.dataset.sse === state"
    page.wait_for_function(is_shown, state, within=within)
