"""The HTML that connects a page."""

import gettext
import hashlib
import logging
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory
from django.urls import include, path
from django.utils.translation import override

from django_sse import markup
from django_sse.assets import script_version
from django_sse.exceptions import EventError, HistoryError, TopicError
from django_sse.history import Gone, get_history
from django_sse.positions import Cursor
from django_sse.requests import STARTED
from django_sse.sharing import share_key
from django_sse.wire import Event

STATIC = Path(markup.__file__).parent / "static" / "django_sse"

urlpatterns = [path("live/events/", include("django_sse.urls"))]
pytestmark = pytest.mark.urls(__name__)


class Elements(HTMLParser):
    """Collect the elements of a piece of HTML, and their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))


def attributes(html: str) -> dict[str, str | None]:
    """Return the attributes of the only element of a piece of HTML."""
    [(_, found)] = Elements(html).found
    return found


def request_of(pk: int | None = None, make: Callable[[str], HttpRequest] | None = None) -> HttpRequest:
    """Return the request of a user, or of nobody."""
    request = (make or RequestFactory().get)("/")
    request.user = AnonymousUser() if pk is None else User(pk=pk)
    return request


def append(*topics: str) -> None:
    """Add an entry to each topic."""
    for topic in topics:
        get_history().append(topic, Event(name="news", text=topic))


async def replayed(html: str, topic: str) -> list[str]:
    """Return what a stream brings to a page of this HTML."""
    cursor = Cursor.parse(attributes(html)["last-id"] or "")
    position = cursor.get(topic)
    assert position is not None, f"{topic} is not in the cursor"
    page = await get_history().read(topic, position, limit=100)
    assert not isinstance(page, Gone)
    return [entry.event.text for entry in page.entries]


def test_script() -> None:
    """The script is loaded deferred, and knows where the polyfill is."""
    assert markup.script() == (
        '<script src="/static/django_sse/sse.min.js" defer'
        ' data-polyfill="/static/django_sse/vendor/eventsource.min.js"></script>'
    )


def test_script_with_nonce() -> None:
    """The nonce of the policy is printed, escaped as every value."""
    assert attributes(markup.script(nonce='a"b'))["nonce"] == 'a"b'


@pytest.mark.parametrize(
    ("static_url", "elsewhere"),
    [
        ("/static/", False),
        ("static/", False),
        ("https://cdn.example/static/", True),
        ("//cdn.example/static/", True),
        ("http://testserver/static/", False),
        ("//testserver/static/", False),
        ("https://testserver/static/", True),
        ("http://testserver:8080/static/", True),
    ],
)
def test_worker(settings: Any, static_url: str, elsewhere: bool) -> None:  # noqa: FBT001
    """With static files on another origin the script's element names the site's own, and its version."""
    settings.STATIC_URL = static_url
    worker = attributes(markup.script(request_of())).get("data-worker")
    assert worker == (f"/live/events/worker.js?v={script_version()}" if elsewhere else None)


def test_worker_without_a_host_to_compare(settings: Any) -> None:
    """Without a request, or one of a host that is not allowed, an address with a host is another origin's."""
    settings.STATIC_URL = "http://testserver/static/"
    stranger = RequestFactory().get("/", headers={"Host": "evil.example"})
    for found in (attributes(markup.script()), attributes(markup.script(stranger))):
        assert (found["data-worker"] or "").startswith("/live/events/worker.js?v=")


@pytest.mark.urls("django.contrib.auth.urls")
def test_worker_that_is_not_served(settings: Any) -> None:
    """A project that does not include the URLs has no address of it, and pages without."""
    settings.STATIC_URL = "https://cdn.example/static/"
    assert "data-worker" not in attributes(markup.script(request_of()))


def test_widgets() -> None:
    """Style and script of status and toasts are static files, and carry the policy's nonce as well."""
    assert markup.widgets() == (
        '<link rel="stylesheet" href="/static/django_sse/sse.css">\n'
        '<script src="/static/django_sse/widgets.js" defer></script>'
    )
    style, script = Elements(markup.widgets(nonce="n-1")).found
    assert style[1]["nonce"] == script[1]["nonce"] == "n-1"


def test_status() -> None:
    """It is a live region that is there from the start, with nothing in it but what it might say."""
    region, *inside = Elements(markup.status()).found
    assert region == ("div", {"class": "sse-status", "role": "status", "data-sse-status": None})
    assert [found["data-sse-state"] for name, found in inside if name == "template"] == [
        "reconnecting",
        "closed",
        "denied",
        "stale",
    ]
    buttons = [found for name, found in inside if name == "button"]
    assert buttons == [{"type": "button", "data-sse-reload": None}] * 3
    outside = re.sub(r"<template.*?</template>", "", markup.status())
    assert outside == '<div class="sse-status" role="status" data-sse-status></div>'


def test_toasts() -> None:
    """They are a log that is there from the start and empty, has a name, and whose buttons have one too."""
    (_, region), (_, template), (_, toast), (_, text), (_, button) = Elements(markup.toasts()).found
    assert (region["role"], region["aria-live"], region["aria-label"]) == ("log", "polite", "Notifications")
    assert (template["data-sse-on"], template["data-sse-max"]) == ("toast", "5")
    assert text == {"data-sse-key": "text"}
    assert (button["type"], button["aria-label"]) == ("button", "Dismiss")
    assert button["data-sse-dismiss"] == f".{toast['class']}"
    assert re.sub(r"<template.*?</template>", "", markup.toasts()).endswith(
        'aria-label="Notifications"></div>'
    )


def test_toasts_of_other_events() -> None:
    """The events' names and how many are shown are the page's choice, escaped as every value."""
    _, (_, template), *_ = Elements(markup.toasts('no"te alert', max=2)).found
    assert (template["data-sse-on"], template["data-sse-max"]) == ('no"te alert', "2")


@pytest.mark.parametrize("event", ["", " "])
def test_toasts_of_no_event(event: str) -> None:
    """A name that is missing, such as that of a missing variable, is an error, not a page without toasts."""
    with pytest.raises(EventError, match="names none"):
        markup.toasts(event)


@pytest.mark.parametrize(
    ("language", "words"), [("de", ("Neu laden", "Schließen")), ("fr", ("Recharger", "Fermer"))]
)
def test_languages(language: str, words: tuple[str, str]) -> None:
    """What visitors read is in the language of the request."""
    with override(language):
        html = markup.status() + markup.toasts()
    assert all(f"{word}<" in html or f'"{word}"' in html for word in words)
    assert not any(word in html for word in ("Reload", "Dismiss", "updated"))


@pytest.mark.parametrize("language", ["de", "fr"])
def test_translations_are_compiled(language: str) -> None:
    """Every text of the package has a translation, and the compiled ones are those that can be read."""
    folder = Path(markup.__file__).parent / "locale" / language / "LC_MESSAGES"
    source = dict(
        re.findall(r'^msgid "(.+)"\nmsgstr "(.+)"$', (folder / "django.po").read_text(), re.MULTILINE)
    )
    with (folder / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    assert {text: compiled[text] for text in compiled if text} == source
    package = Path(markup.__file__).parent
    used = {
        text for path in package.rglob("*.py") for text in re.findall(r'\b_\("([^"]+)"\)', path.read_text())
    } | {
        text.strip("\"'")
        for path in package.rglob("*.html")
        for text in re.findall(r"""{% translate ("[^"]+"|'[^']+')""", path.read_text())
    }
    assert set(source) == used


def test_stream_of_named_topics() -> None:
    """An anonymous page follows the topics that it names: its address asks for them, its cursor has them."""
    html = markup.stream(request_of(), ["orders", "room.5", "ö&=", "orders"])
    assert html.startswith("<sse-stream ")
    assert html.endswith("></sse-stream>")
    found = attributes(html)
    key = share_key(None)
    assert found["src"] == f"/live/events/?topic=orders&topic=room.5&topic=%C3%B6%26%3D&share={key}"
    assert list(Cursor.parse(found["last-id"] or "").positions) == list(
        Cursor.of(get_history().tail(["orders", "room.5", "ö&="])).positions
    )


def test_stream_of_a_user() -> None:
    """A signed-in user's page follows the user's own topic, which the address need not name."""
    found = attributes(markup.stream(request_of(7)))
    assert found["src"] == f"/live/events/?share={share_key('user.7')}"
    assert Cursor.parse(found["last-id"] or "").get("user.7") == get_history().tail(["user.7"])["user.7"]


def test_nothing_to_follow() -> None:
    """A page of nobody that names no topic has no stream; neither has one without authentication."""
    assert markup.stream(request_of()) == ""
    assert markup.stream(RequestFactory().get("/")) == ""


def test_wrong_topic() -> None:
    """A name that is no topic, such as that of a missing variable, is refused."""
    with pytest.raises(TopicError, match="''"):
        markup.stream(request_of(), [""])


@pytest.mark.urls("django.contrib.auth.urls")
def test_urls_that_are_not_included() -> None:
    """Where the stream has no address, the error says which line to add."""
    with pytest.raises(ImproperlyConfigured, match=re.escape('path("events/", include("django_sse.urls"))')):
        markup.stream(request_of(), ["orders"])


@pytest.mark.parametrize("make", [RequestFactory().get, AsyncRequestFactory().get])
async def test_cursor_of_the_rendering(make: Callable[[str], HttpRequest], settings: Any) -> None:
    """The cursor stands where the request began: what came since then is brought, not what came before."""
    settings.DJANGO_SSE = {"RENDER_MARGIN": 0}
    append("orders")
    request = request_of(make=make)
    carrier: Any = getattr(request, "scope", None) or request.environ  # type: ignore[attr-defined]
    carrier[STARTED] = time.monotonic() - 100
    assert await replayed(markup.stream(request, ["orders"]), "orders") == ["orders"]
    del carrier[STARTED]
    assert await replayed(markup.stream(request, ["orders"]), "orders") == []


async def test_margin() -> None:
    """The cursor lies RENDER_MARGIN before the request: clocks and commits are not that exact."""
    append("orders", "orders")
    request = request_of()
    request.environ[STARTED] = time.monotonic()  # type: ignore[attr-defined]
    assert await replayed(markup.stream(request, ["orders"]), "orders") == ["orders", "orders"]


def test_history_that_is_down(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without its history a page is rendered without a cursor, and the log tells."""

    def fail(*_: object, **__: object) -> None:
        raise HistoryError("down")

    monkeypatch.setattr(get_history(), "at", fail)
    with caplog.at_level(logging.WARNING):
        found = attributes(markup.stream(request_of(), ["orders"]))
    assert found["src"] == f"/live/events/?topic=orders&share={share_key(None)}"
    assert "last-id" not in found
    [record] = caplog.records
    assert record.exc_info


def test_polyfill_is_the_pinned_one() -> None:
    """The polyfill is the published file, of the version and hash in its README, with its licences."""
    vendor = STATIC / "vendor"
    readme = (vendor / "README.md").read_text()
    version = re.search(r"event-source-polyfill (\S+)", readme)
    digest = re.search(r"sha256 ([0-9a-f]{64})  eventsource\.min\.js", readme)
    assert version is not None
    assert digest is not None
    content = (vendor / "eventsource.min.js").read_bytes()
    assert (version[1], digest[1]) == (
        "1.0.31",
        "241c360c5ec515a528d231bf369b73b8098e552149cfe67ceb0c5b2881cae327",
    )
    assert hashlib.sha256(content).hexdigest() == digest[1]
    assert content.startswith(b"/** @license\n * eventsource.js\n * Available under MIT License (MIT)")
    for name in ("LICENSE", "LICENSE.md"):
        assert "Permission is hereby granted, free of charge" in (vendor / name).read_text()


def test_version_stands_in_one_place() -> None:
    """No other file of the package names the polyfill's version."""
    package = STATIC.parent.parent
    named = [
        file.relative_to(package).as_posix()
        for file in package.rglob("*")
        if file.is_file() and b"1.0.31" in file.read_bytes()
    ]
    assert named == ["static/django_sse/vendor/README.md"]


def test_hashed_static_files(settings: Any, tmp_path: Path) -> None:
    """A manifest storage collects the files, and the tag prints the addresses with their hashes."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
    }
    call_command("collectstatic", interactive=False, verbosity=0)
    found = attributes(markup.script())
    assert re.fullmatch(r"/static/django_sse/sse\.min\.[0-9a-f]{12}\.js", found["src"] or "")
    assert re.fullmatch(
        r"/static/django_sse/vendor/eventsource\.min\.[0-9a-f]{12}\.js", found["data-polyfill"] or ""
    )
