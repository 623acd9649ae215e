"""Sending HTML: what is rendered, when, and what pages are told to do with it."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.template import Engine, Template, TemplateDoesNotExist, engines
from django.test import RequestFactory
from pytest_django import Settings

from django_sse import asend_fragment, hearing, layers, send_event, send_fragment
from django_sse.exceptions import EventError, HistoryError, PublishError, TopicError
from django_sse.fragments import SWAPS
from django_sse.history import get_history
from django_sse.testing import capture_events
from django_sse.wire import Event, Parser, encode
from tests.servers.process import ROOT
from tests.test_publishing import BrokenHistory, Rollback, sent

Publish = Callable[..., Awaitable[None]]

TEMPLATES = {
    "order.html": '<li id="order-{{ pk }}" title="{{ text }}">{{ text }}</li>',
    "user.html": "{{ user.username }}{{ text }}",
    "names.html": "{% for user in users %}{{ user.username }}{% endfor %}",
    "broken.html": "{{ text|divide }}",
    "thread.html": "{{ where }}",
}
HOSTILE = "<script>alert(1)</script>\"' onload=x &"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27; onload=x &amp;"


@pytest.fixture(autouse=True)
def process(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with an empty history, nobody who hears, and the templates above."""
    settings.DJANGO_SSE = {}
    [engine] = settings.TEMPLATES
    loaders = [("django.template.loaders.locmem.Loader", TEMPLATES)]
    options = {**engine["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]
    monkeypatch.setattr(layers, "_process", layers._Process())
    monkeypatch.setattr(hearing, "_hearing", hearing._Hearing())


@pytest.fixture(params=["send_fragment", "asend_fragment"])
def publish(request: pytest.FixtureRequest) -> Publish:
    """Return both ways to send: the plain one runs in a thread, where no loop is."""

    async def plainly(*args: Any, **kwargs: Any) -> None:
        await asyncio.to_thread(send_fragment, *args, **kwargs, on_commit=False)

    return plainly if request.param == "send_fragment" else asend_fragment


def fragments(topic: str = "orders") -> list[dict[str, str]]:
    """Return what pages are told."""
    assert {event.name for event in sent(topic)} <= {"sse-fragment"}
    return [json.loads(event.text) for event in sent(topic)]


def texts() -> list[str]:
    """Return the HTML that pages get."""
    return [fragment["html"] for fragment in fragments()]


# -- what ----------------------------------------------------------------------------------------------


async def test_a_fragment_is_an_event(publish: Publish) -> None:
    """Pages get the selector, what to do, and the HTML of the template."""
    await publish("orders", "order.html", {"pk": 5, "text": "Tea"}, target="#orders")

    html = '<li id="order-5" title="Tea">Tea</li>'
    assert fragments() == [{"target": "#orders", "swap": "append", "html": html}]


async def test_a_fragment_goes_to_whom_it_says(publish: Publish) -> None:
    """To a user, a topic, or several, given by an iterator too."""
    await publish(iter([User(pk=5), "orders"]), "order.html", {"pk": 1}, target="ul", swap="prepend")

    assert fragments() == fragments("user.5")
    assert [fragment["swap"] for fragment in fragments()] == ["prepend"]


async def test_what_the_context_holds_is_escaped(publish: Publish) -> None:
    """It stays text in elements and attributes, as in every template."""
    await publish("orders", "order.html", {"pk": HOSTILE, "text": HOSTILE}, target="#orders")

    assert texts() == [f'<li id="order-{ESCAPED}" title="{ESCAPED}">{ESCAPED}</li>']


@pytest.mark.parametrize("html", ["one\r\ntwo\n\nthree\0", "data: x\n\nevent: y", "ä\u2028\ufeff{}"])
async def test_html_of_any_kind_arrives_intact(publish: Publish, html: str) -> None:
    """Line ends and the like stay in the JSON, and end no line of the stream."""
    await publish("orders", Template(html), target="#orders")

    [message] = Parser().feed(encode(sent()[0]))
    assert json.loads(message.text)["html"] == html


@pytest.mark.parametrize(
    "template",
    [
        "order.html",
        ["missing.html", "order.html"],
        ("order.html",),
        lambda: engines["django"].get_template("order.html"),
        lambda: Template(TEMPLATES["order.html"]),
    ],
    ids=["name", "list", "tuple", "of a loader", "by hand"],
)
async def test_every_kind_of_template(publish: Publish, template: Any, rf: RequestFactory) -> None:
    """A name, several of which one is there, a loader's template, or one made by hand; all of them escape."""
    request = rf.get("/")
    request.user = AnonymousUser()
    made = template() if callable(template) else template

    await publish("orders", made, {"pk": 1, "text": "<"}, target="ul")
    await publish("orders", made, {"pk": 1, "text": "<"}, target="ul", request=request)

    assert texts() == ['<li id="order-1" title="&lt;">&lt;</li>'] * 2


async def test_an_engine_that_does_not_escape(publish: Publish) -> None:
    """A template made by hand is rendered as its engine says."""
    await publish("orders", Template("{{ it }}", engine=Engine(autoescape=False)), {"it": "<"}, target="ul")

    assert texts() == ["<"]


@pytest.mark.parametrize("by_hand", [False, True])
async def test_context_processors_know_the_request(
    publish: Publish, rf: RequestFactory, *, by_hand: bool
) -> None:
    """They are asked where a request is given, and nowhere else; the context goes before them."""
    request = rf.get("/")
    request.user = User(pk=5, username="ada")
    template = Template(TEMPLATES["user.html"]) if by_hand else "user.html"
    context = {"text": "!"}

    await publish("orders", template, context, target="#user", request=request)
    await publish("orders", template, context, target="#user")
    await publish("orders", template, {"user": User(username="bob")}, target="#user", request=request)

    assert texts() == ["ada!", "!", "bob"]
    assert context == {"text": "!"}


@pytest.mark.parametrize("swap", SWAPS)
async def test_every_swap_is_sent(publish: Publish, swap: str) -> None:
    """Each goes to the pages as it was given; a removal renders nothing, whatever it was given."""
    await publish("orders", "order.html", {"pk": 1}, target="#order-1", swap=swap)

    [fragment] = fragments()
    assert (fragment["swap"], fragment["html"] == "") == (swap, swap == "remove")


def test_the_script_knows_every_swap() -> None:
    """What Python lets through, the script can do, and nothing else."""
    script = (ROOT / "django_sse" / "static" / "django_sse" / "sse.js").read_text()

    (table,) = re.findall(r"const swaps = \{\n    __proto__: null,[^\n]*\n(.*?)\n  \};", script, re.DOTALL)
    assert tuple(re.findall(r"^    (\w+): ", table, re.MULTILINE)) == SWAPS


async def test_a_removal_needs_no_template(publish: Publish) -> None:
    """There is nothing to render."""
    await publish("orders", None, target="#order-1", swap="remove")

    assert fragments() == [{"target": "#order-1", "swap": "remove", "html": ""}]


# -- what not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        (
            {"swap": "text"},
            "is one of append, prepend, before, after, replace, html, remove, not 'text'",
        ),
        ({"swap": None}, "is one of append, prepend"),
        ({"target": ""}, "is a CSS selector such as '#orders', not ''"),
        ({"target": " "}, "is a CSS selector such as '#orders', not ' '"),
        ({"target": None}, "is a CSS selector such as '#orders', not None"),
        ({"target": "\ud800"}, "lone surrogate"),
        ({"template": None}, "a fragment to append needs a template: only 'remove' goes without one"),
        ({"version": 1}, "give both or none"),
    ],
)
async def test_what_cannot_be_sent_is_refused(publish: Publish, arguments: Any, telling: str) -> None:
    """The error says what there is to choose from, at the call."""
    given = {"template": "order.html", "target": "#orders"} | arguments

    with pytest.raises(EventError, match=re.escape(telling)):
        await publish("orders", given.pop("template"), **given)

    assert sent() == []


async def test_wrong_recipients_are_refused(publish: Publish) -> None:
    """As `send_event` refuses them."""
    for to in ("two words", None, AnonymousUser()):
        with pytest.raises(TopicError):
            await publish(to, "order.html", target="#orders")


@pytest.mark.parametrize("template", ["missing.html", ["missing.html", "no.html"], "broken.html"])
async def test_what_rendering_raises_is_raised(publish: Publish, template: Any) -> None:
    """A template that is missing or wrong raises what it always does, and nothing is sent."""
    with pytest.raises(Exception, match=r"missing\.html|Invalid filter: 'divide'"):
        await publish("orders", template, target="#orders")

    assert sent() == []


async def test_an_oversized_fragment_is_refused(publish: Publish, settings: Settings) -> None:
    """The limit is that of every event, of what goes over the wire."""
    settings.DJANGO_SSE = {"MAX_EVENT": 1000}
    empty = {"target": "#orders", "swap": "append", "html": ""}
    room = 1000 - len(Event(name="sse-fragment", text=json.dumps(empty, separators=(",", ":"))).block)

    await publish("orders", Template("é" * (room // 2) + "x" * (room % 2)), target="#orders")
    with pytest.raises(EventError, match="'sse-fragment' has 1001 bytes, more than"):
        await publish("orders", Template("x" * (room + 1)), target="#orders")

    assert [len(event.block) for event in sent()] == [1000]


def test_projects_cannot_send_its_name() -> None:
    """HTML goes through a template: nothing else makes pages put it."""
    with pytest.raises(EventError, match="'sse-fragment' is reserved"):
        send_event("orders", "sse-fragment", {"target": "body", "swap": "html", "html": "<p>"})


# -- when ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_commit_sends() -> None:
    """What waits for the commit was rendered at the call; a rollback sends nothing."""
    order = {"pk": 1, "text": "old"}
    with suppress(Rollback), transaction.atomic():
        send_fragment("orders", "order.html", order, target="#orders")
        raise Rollback
    with transaction.atomic():
        send_event("orders", "order-saved", 1)
        send_fragment("orders", "order.html", order, target="#orders")
        order["text"] = "new"
        assert sent() == []

    assert [event.name for event in sent()] == ["order-saved", "sse-fragment"]
    assert "old" in sent()[1].text


@pytest.mark.django_db(transaction=True)
def test_it_can_be_sent_before_the_commit() -> None:
    """With on_commit=False it is sent now, whatever becomes of the transaction."""
    with suppress(Rollback), transaction.atomic():
        send_fragment("orders", "order.html", {"pk": 1}, target="#orders", on_commit=False)
        raise Rollback

    assert len(fragments()) == 1


@pytest.mark.django_db(transaction=True)
def test_errors_raise_at_the_call() -> None:
    """Not after the commit, where nobody could mend them."""
    with transaction.atomic():
        for template, error in (("missing.html", TemplateDoesNotExist), (None, EventError)):
            with pytest.raises(error):
                send_fragment("orders", template, target="#orders")


@pytest.mark.django_db
def test_the_tests_of_projects_see_it() -> None:
    """`capture_events` has what waits, with what pages would be told."""
    with capture_events() as events:
        send_fragment("orders", None, target="#order-1", swap="remove")

    [event] = events.named("sse-fragment")
    assert (event.pending, event.data["target"]) == (True, "#order-1")


async def test_a_stale_version_is_not_told(publish: Publish) -> None:
    """Key and version mean what they mean for `send_event`."""
    for version in (2, 1, 3):
        context = {"pk": version}
        await publish("orders", "order.html", context, target="ul", key="order.1", version=version)

    assert [html[: len('<li id="order-1"')] for html in texts()] == ['<li id="order-2"', '<li id="order-3"']


async def test_an_idempotency_key_is_one_fragment(publish: Publish) -> None:
    """Two sendings with the same key are one."""
    for number in (1, 2):
        await publish("orders", Template(str(number)), target="ul", idempotency_key="k")

    assert texts() == ["1"]


async def test_a_failure_now_raises(publish: Publish, settings: Settings) -> None:
    """Who sends now learns what was not sent."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{BrokenHistory.__module__}.BrokenHistory"}}

    with pytest.raises(PublishError, match="'sse-fragment' was not sent to 'orders'") as caught:
        await publish("orders", "order.html", target="ul")

    assert isinstance(caught.value.__cause__, HistoryError)


# -- where ---------------------------------------------------------------------------------------------


async def test_a_running_loop_is_not_blocked() -> None:
    """In a coroutine the plain call is refused before it renders, and names the one that belongs there."""
    with pytest.raises(SynchronousOnlyOperation, match=r"use `await asend_fragment\(\)`"):
        send_fragment("orders", "missing.html", target="ul")


async def test_rendering_has_a_thread() -> None:
    """A coroutine's template is rendered where no loop runs, so that it may query the database."""

    def where() -> str:
        with suppress(RuntimeError):
            return str(asyncio.get_running_loop())
        return "elsewhere" if threading.current_thread() is not threading.main_thread() else "here"

    await asend_fragment("orders", "thread.html", {"where": where}, target="ul")

    assert texts() == ["elsewhere"]


@pytest.mark.usefixtures("database")
async def test_templates_may_query() -> None:
    """A query that the template begins is made, also for a coroutine."""
    await User.objects.acreate(username="ada")

    await asend_fragment("orders", "names.html", {"users": User.objects.all()}, target="ul")

    assert texts() == ["ada"]
    assert get_history().tail(["orders"])
