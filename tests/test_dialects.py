"""Clients that do not speak ours get their own words, and nothing in an event can change what they do."""

import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from html.parser import HTMLParser
from typing import Any

import pytest
from datastar_py import ServerSentEventGenerator
from datastar_py.consts import ElementPatchMode
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponseBase
from django.urls import path
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_django import Settings

from django_sse import access, layers
from django_sse.dialects import DIALECTS, ENVELOPE, FRAGMENT
from django_sse.exceptions import HistoryError
from django_sse.fragments import SWAPS
from django_sse.responses import EventStreamResponse
from django_sse.signed_urls import asigned_stream_url
from django_sse.wire import Event, Message, Parser, encode
from tests.exchange import Exchange, open_exchange
from tests.servers.process import ROOT
from tests.test_wire import EVENTS, TEXTS
from tests.visits import Visit

WIRE = ROOT / "docs" / "reference" / "wire.md"
View = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponseBase]]


@pytest.fixture
async def exchange(
    handler: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test, whose news everybody may follow."""
    monkeypatch.setattr(access, "_rules", [])
    access.allow("news")(lambda request: True)
    async with open_exchange(settings) as exchange:
        yield exchange


def letter(visit: Visit, index: int = -1) -> tuple[str, str]:
    """Return the name and text of a message in its envelope."""
    message = visit.messages[index]
    assert message.name == "message"
    fields = json.loads(message.text)
    assert list(fields) == ["e", "d"]
    return fields["e"], fields["d"]


async def tell(exchange: Exchange, event: Event) -> None:
    """Append an event to the news, and ring."""
    entry = await exchange.history.aappend("news", event)
    assert entry is not None
    layers.ring(entry)


# -- the envelope --------------------------------------------------------------------------------------


@given(EVENTS)
def test_an_envelope_holds_any_event(event: Event) -> None:
    """Whatever its name and text are, they come out as they went in, of one line."""
    block = encode(ENVELOPE.word(event))
    [message] = Parser().feed(block)

    assert json.loads(message.text) == {"e": event.name, "d": event.text}
    assert (message.name, block.count(b"\n")) == ("message", 2)


async def test_the_view_puts_events_into_envelopes(exchange: Exchange) -> None:
    """Every event is a message that carries its name; ids and the time to reconnect are as ever."""
    async with Visit("/events/?topic=news&envelope=1") as visit:
        await visit.event()
        exchange.publish("news", "one\ntwo")
        await visit.event()

    assert letter(visit, 0)[0] == "sse-open"
    assert json.loads(letter(visit, 0)[1])["topics"] == ["news"]
    assert letter(visit) == ("message", "one\ntwo")
    assert visit.messages[-1].id.startswith("1~")
    assert visit.parser.retry is not None


@pytest.mark.parametrize("value", ["0", "", "true"])
async def test_only_one_means_yes(exchange: Exchange, value: str) -> None:
    """Any other value asks for nothing."""
    async with Visit(f"/events/?topic=news&envelope={value}") as visit:
        await visit.event("sse-open")


async def test_the_streams_of_views_have_envelopes_too(exchange: Exchange, settings: Settings) -> None:
    """What a project's own iterator gives, and its end."""

    async def steps() -> AsyncIterator[Event]:
        yield Event(name="step", text="1")

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(steps(), request=request)

    settings.ROOT_URLCONF = (path("", view),)
    async with Visit("/?envelope=1") as visit:
        await visit.rest()

    assert letter(visit, 0) == ("step", "1")
    assert letter(visit)[0] == "sse-close"
    assert visit.messages[-1].id == "end"


@pytest.mark.usefixtures("database")
async def test_short_answers_have_envelopes_too(exchange: Exchange) -> None:
    """Where a signed address cannot be read, its client is told so in the words that it understands."""
    address = await asigned_stream_url(await User.objects.acreate_user("ann"))
    exchange.history.fault = HistoryError("down")
    async with Visit(f"{address}&envelope=1") as visit:
        await visit.rest()

    assert len(visit.messages) == 1
    assert letter(visit) == ("sse-close", '{"reason":"error","reconnect":true}')


# -- fragments -----------------------------------------------------------------------------------------

HTML = '<li id="order-5">Tea\n for two</li>'
TARGETS = st.one_of(TEXTS, st.text("\"'<>&\r\n\f\0 #.:a", min_size=1)).filter(lambda text: text.strip())
HTMLS = st.one_of(TEXTS, st.text("\"'<>/!-\r\n\0 trdliv", max_size=40))
HOSTILE = 'a[title="\'><img onerror=x>"]\r\ndata: x\n\nevent: y'


def fragment(swap: str = "append", *, target: str = "#orders", html: str = HTML) -> Event:
    """Return the event that carries a fragment."""
    return Event(name=FRAGMENT, text=json.dumps({"target": target, "swap": swap, "html": html}))


def worded(name: str, event: Event) -> Message:
    """Return what a client gets of an event in a dialect."""
    [message] = Parser().feed(encode(DIALECTS[name].word(event)))
    return message


class Tags(HTMLParser):
    """The first tag of HTML, as a browser reads it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.tag, self.attributes = self.tags[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag; of an attribute that stands twice the first counts."""
        self.tags.append((tag, dict(reversed(attrs))))


def patch(message: Message) -> dict[str, str]:
    """Return what Datastar reads from an event: lines by their first word."""
    assert message.name == "datastar-patch-elements"
    lines: dict[str, list[str]] = {}
    for line in message.text.split("\n"):
        name, _, value = line.partition(" ")
        lines.setdefault(name, []).append(value)
    return {name: "\n".join(values) for name, values in lines.items()}


@pytest.mark.parametrize(
    ("swap", "action"), [(swap, "update" if swap == "html" else swap) for swap in SWAPS if swap != "remove"]
)
def test_turbo_is_told_in_stream_elements(swap: str, action: str) -> None:
    """Each is a message, the one thing that Turbo reads; the selector is of any number of elements."""
    assert worded("turbo", fragment(swap)) == Message(
        name="message",
        text=f'<turbo-stream action="{action}" targets="#orders"><template>{HTML}</template></turbo-stream>',
        id="",
    )


HTMX = {
    "append": "beforeend",
    "prepend": "afterbegin",
    "before": "beforebegin",
    "after": "afterend",
    "replace": "outerHTML",
    "html": "innerHTML",
}


@pytest.mark.parametrize("swap", HTMX)
def test_htmx_4_is_told_in_partials(swap: str) -> None:
    """Each is a message, which its extension swaps: a partial names its own target."""
    assert worded("htmx4", fragment(swap)) == Message(
        name="message",
        text=f'<hx-partial hx-target="#orders" hx-swap="{HTMX[swap]}">{HTML}</hx-partial>',
        id="",
    )


@pytest.mark.parametrize("swap", [swap for swap in HTMX if swap != "replace"])
def test_htmx_2_is_told_out_of_band(swap: str) -> None:
    """What an element holds is swapped where the element says."""
    assert worded("htmx2", fragment(swap)) == Message(
        name="sse-fragment", text=f'<div hx-swap-oob="{HTMX[swap]}:#orders">{HTML}</div>', id=""
    )


@pytest.mark.parametrize(
    ("html", "parent"),
    [
        ("<tr><td>1</td></tr>", "tbody"),
        ("\n <!-- <li> -->\n<TR class=a>", "tbody"),
        ("<td>1</td>", "tr"),
        ("<th>1</th>", "tr"),
        ("<tbody></tbody>", "table"),
        ("<caption>x</caption>", "table"),
        ("<col>", "colgroup"),
        ("<li>1</li>", "div"),
        ("<track>", "div"),
        ("text <tr>", "div"),
        ("", "div"),
    ],
)
def test_htmx_2_gets_rows_in_tables(html: str, parent: str) -> None:
    """The parser drops a row in an element that cannot hold it."""
    text = f'<{parent} hx-swap-oob="beforeend:#orders">{html}</{parent}>'

    assert worded("htmx2", fragment(html=html)).text == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<li id=a>1</li>", '<li hx-swap-oob="outerHTML:#orders" id=a>1</li>'),
        ("<hr>", '<hr hx-swap-oob="outerHTML:#orders">'),
        ("<br/>", '<br hx-swap-oob="outerHTML:#orders"/>'),
        ("<!-- a --> <!-- <b> -->\n<tr>", '<tr hx-swap-oob="outerHTML:#orders">'),
        ("one", '<div hx-swap-oob="afterend:#orders">one</div><div hx-swap-oob="delete:#orders"></div>'),
        ("", '<div hx-swap-oob="afterend:#orders"></div><div hx-swap-oob="delete:#orders"></div>'),
    ],
)
def test_htmx_2_replaces_by_the_element_itself(html: str, text: str) -> None:
    """An element that holds it would stay around it; text has no element that could say where."""
    assert worded("htmx2", fragment("replace", html=html)).text == text


def test_removals_carry_nothing() -> None:
    """Each front end has a word for them, whatever stands there as HTML."""
    event = fragment("remove", target="ul > li")

    assert {name: worded(name, event).text for name in DIALECTS} == {
        "turbo": '<turbo-stream action="remove" targets="ul &gt; li"></turbo-stream>',
        "htmx2": '<div hx-swap-oob="delete:ul &gt; li"></div>',
        "htmx4": '<hx-partial hx-target="ul &gt; li" hx-swap="delete"></hx-partial>',
        "datastar": "mode remove\nselector ul > li",
    }


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("html", [HTML, "one\n\n  two", "ünï €"])
def test_datastar_is_told_what_its_own_kit_tells(swap: str, html: str) -> None:
    """Event and lines are those that Datastar's Python SDK writes."""
    mode = ElementPatchMode("inner" if swap == "html" else swap)
    elements = None if swap == "remove" else html
    theirs = ServerSentEventGenerator.patch_elements(elements, selector="ul > li", mode=mode)  # type: ignore[arg-type]

    assert [worded("datastar", fragment(swap, target="ul > li", html=html))] == Parser().feed(theirs.encode())


@given(TARGETS, HTMLS, st.sampled_from(SWAPS))
@example(HOSTILE, HOSTILE, "append")
@example("a b", "</template></div></hx-partial>", "replace")
@example("a b", "<li", "replace")
@example("a b", "<li\v title='>", "replace")
def test_nothing_leaves_its_field(target: str, html: str, swap: str) -> None:
    """Selectors stay in their attribute or line, and HTML behind it, whatever they hold."""
    event = fragment(swap, target=target, html=html)
    plain = target.replace("\0", "\ufffd")
    plain = plain.replace("\r", " ").replace("\n", " ").replace("\f", " ").strip()
    lines = html.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    kept = "" if swap == "remove" else lines

    turbo = Tags(worded("turbo", event).text)
    assert (turbo.tag, turbo.attributes.pop("targets")) == ("turbo-stream", plain)
    assert turbo.attributes.keys() == {"action"}
    htmx4 = Tags(worded("htmx4", event).text)
    assert (htmx4.tag, htmx4.attributes.pop("hx-target")) == ("hx-partial", plain)
    assert htmx4.attributes.keys() == {"hx-swap"}
    out_of_band, _, rest = worded("htmx2", event).text.partition('hx-swap-oob="')
    htmx2 = Tags(f'{out_of_band}hx-swap-oob="{rest.partition(chr(34))[0]}">')  # the first attribute
    assert (htmx2.attributes["hx-swap-oob"] or "").partition(":")[2] == plain
    datastar = patch(worded("datastar", event))
    assert datastar.pop("elements", "") == kept
    assert datastar == {"mode": "inner" if swap == "html" else swap, "selector": plain}
    for name in ("turbo", "htmx4"):
        assert kept in worded(name, event).text


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "<b>",
        "[]",
        "null",
        "[" * 100_000,
        "{}",
        '{"target":"a","swap":"append"}',
        '{"target":"a","swap":"text","html":""}',
        '{"target":"a","swap":["append"],"html":""}',
        '{"target":" ","swap":"append","html":""}',
        '{"target":["a"],"swap":"append","html":""}',
        '{"target":"a","swap":"append","html":1}',
        '{"target":"a","swap":"append","html":"\\ud800"}',
    ],
)
def test_what_is_no_fragment_says_nothing(name: str, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Such an entry is an empty event, also where a front end would take its text for HTML; the log tells."""
    assert worded(name, Event(name=FRAGMENT, text=text)) == Message(name="sse-fragment", text="", id="")
    assert "A fragment in the history is none" in caplog.text


@pytest.mark.parametrize("name", DIALECTS)
@given(event=EVENTS)
def test_other_events_stay(name: str, event: Event) -> None:
    """But for messages, where the front end would put them into the page as HTML: those have a name there."""
    told = DIALECTS[name].word(event)

    assert told.text == event.text
    if event.name == "message" and name in ("turbo", "htmx4"):
        assert told.name == "sse-message"
    else:
        assert told.name == event.name


def test_every_dialect_is_in_the_reference() -> None:
    """Its name stands there with what it makes of the fragment there, word for word."""
    section = WIRE.read_text().partition("## Dialects")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^`(\w+)`$(.*?)(?=^`|\Z)", section, re.MULTILINE | re.DOTALL))
    event = fragment(html="<li>Tea</li>")

    assert shown.keys() == DIALECTS.keys()
    for name, text in shown.items():
        assert DIALECTS[name].word(event).block.decode() in text.replace("\n  ", "\n")


# -- what a request asks for ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIALECTS)
async def test_the_view_speaks_a_dialect(exchange: Exchange, name: str) -> None:
    """Fragments come in its words, what is none ends nothing, and ids are cursors that it goes on from."""
    told = DIALECTS[name].word(fragment())
    async with Visit(f"/events/?topic=news&dialect={name}") as visit:
        opened = await visit.event("sse-open")
        await tell(exchange, fragment())
        await tell(exchange, Event(name=FRAGMENT, text="<b>"))
        exchange.publish("news", "text")
        while len(visit.messages) < 4:
            await visit.read()
    async with Visit(f"/events/?topic=news&dialect={name}&lastEventId={opened.id}") as again:
        while len(again.messages) < 4:
            await again.read()

    [_, first, none, last] = visit.messages
    assert (first.name, first.text, none.text, last.text) == (told.name, told.text, "", "text")
    assert again.messages[1:] == visit.messages[1:]
    assert len({message.id for message in visit.messages}) == 4


@pytest.mark.parametrize(
    ("header", "query", "name"),
    [
        ("HX-Request", "", "htmx4"),
        ("Datastar-Request", "", "datastar"),
        ("HX-Request", "&dialect=turbo", "turbo"),
    ],
)
async def test_a_front_end_is_known_by_its_header(
    exchange: Exchange, header: str, query: str, name: str
) -> None:
    """Its streams need no parameter; where there is one, that counts."""
    async with Visit(f"/events/?topic=news{query}", headers={header: "true"}) as visit:
        await visit.event("sse-open")
        await tell(exchange, fragment())
        told = DIALECTS[name].word(fragment())
        assert (await visit.event(told.name)).text == told.text


async def test_an_envelope_counts_more_than_a_header(exchange: Exchange) -> None:
    """Who asks for envelopes gets them, wherever the request comes from."""
    async with Visit("/events/?topic=news&envelope=1", headers={"HX-Request": "true"}) as visit:
        await visit.event()

    assert letter(visit)[0] == "sse-open"


@pytest.mark.parametrize(
    ("query", "telling"),
    [
        ("dialect=htmx", "No dialect is called 'htmx': there are turbo, htmx2, htmx4, datastar."),
        ("dialect=", "No dialect is called ''"),
        ("dialect=%0D%0A<b>", r"No dialect is called '\r\n<b>'"),
        ("dialect=turbo&envelope=1", "ask for one of them"),
    ],
)
async def test_what_cannot_be_spoken_is_refused(exchange: Exchange, query: str, telling: str) -> None:
    """The sentence says what there is."""
    async with Visit(f"/events/?topic=news&{query}") as visit:
        text = await visit.rest()

    assert visit.status == 400
    assert visit.headers["content-type"] == "text/plain; charset=utf-8"
    assert telling in text
    assert text.endswith(".\n")


async def test_a_views_own_events_are_its_own(exchange: Exchange, settings: Settings) -> None:
    """An iterator gives what its page reads, in any dialect: a view that wrote it knows its front end."""

    async def steps() -> AsyncIterator[str]:
        yield "<b>1</b>"

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(steps(), request=request)

    settings.ROOT_URLCONF = (path("", view),)
    async with Visit("/?dialect=its+own", headers={"HX-Request": "true"}) as visit:
        await visit.rest()

    assert [(message.name, message.text) for message in visit.messages[:-1]] == [("message", "<b>1</b>")]
