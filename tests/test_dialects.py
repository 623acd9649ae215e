"""Clients that do not speak ours get their own words, and nothing in an event can change what they do."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase
from django.urls import path
from hypothesis import given
from pytest_django import Settings

from django_sse import access
from django_sse.asgi import LeanHandler
from django_sse.dialects import ENVELOPE
from django_sse.exceptions import HistoryError
from django_sse.responses import EventStreamResponse
from django_sse.signed_urls import asigned_stream_url
from django_sse.wire import Event, Parser, encode
from tests.exchange import Exchange, open_exchange
from tests.test_wire import EVENTS
from tests.visits import Visit

View = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponseBase]]


@pytest.fixture(params=[ASGIHandler, LeanHandler])
def handler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Visit through Django's own handler, and through the lean one."""
    monkeypatch.setattr(Visit, "handler", request.param)


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
