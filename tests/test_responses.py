"""An event stream is a response like any other, holds nothing of its request, and harms no server."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest, HttpResponseBase
from django.test import RequestFactory
from django.urls import path
from django.utils.decorators import async_only_middleware
from pytest_django import Settings

from django_sse import drain
from django_sse.conf import get_settings
from django_sse.exceptions import HistoryError
from django_sse.responses import EventStreamResponse
from django_sse.streams import BaseStream, Stream, Streamable
from django_sse.wire import HEARTBEAT, Event
from tests.exchange import Exchange, open_exchange
from tests.visits import Visit, close_really
from tests.waiting import eventually, turns

pytestmark = pytest.mark.usefixtures("handler")

View = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponseBase]]


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test."""
    async with open_exchange(settings) as exchange:
        yield exchange


@pytest.fixture
def place(settings: Settings) -> Callable[[View], None]:
    """Return what makes a view the only one of the site."""

    def place(view: View) -> None:
        settings.ROOT_URLCONF = (path("", view),)

    return place


def news(request: HttpRequest) -> EventStreamResponse:
    """Answer with a stream of the news."""
    return EventStreamResponse(Stream(["news"], settings=get_settings()), request=request)


async def news_view(request: HttpRequest) -> HttpResponseBase:
    """Stream the news."""
    return news(request)


def is_left(exchange: Exchange) -> bool:
    """Tell whether nobody streams or follows anything here."""
    return not exchange.hub.streams and all(
        not follower.streams for follower in exchange.hub.followers.values()
    )


# -- through Django's handler ------------------------------------------------------------------------


async def test_headers(exchange: Exchange, place: Callable[[View], None]) -> None:
    """The headers that keep caches, proxies and compression away are there; `Connection` is the server's."""
    place(news_view)
    async with Visit("/") as visit:
        assert visit.status == 200
        assert visit.headers["content-type"] == "text/event-stream"
        assert visit.headers["cache-control"] == "no-cache, no-transform"
        assert visit.headers["x-accel-buffering"] == "no"
        assert visit.headers["content-encoding"] == "identity"
        assert not {"connection", "content-length", "transfer-encoding"} & set(visit.headers)


async def test_a_view_may_add_headers_and_a_status(exchange: Exchange, place: Callable[[View], None]) -> None:
    """What a view gives goes along, and before the headers of the package."""

    async def view(request: HttpRequest) -> HttpResponseBase:
        stream = Stream(["news"], settings=get_settings())
        headers = {"X-Mine": "1", "Cache-Control": "no-store"}
        response = EventStreamResponse(stream, request=request, status=203, headers=headers)
        response.set_cookie("flavour", "oat")
        return response

    place(view)
    async with Visit("/") as visit:
        assert visit.status == 203
        assert visit.headers["x-mine"] == "1"
        assert visit.headers["cache-control"] == "no-store"
        assert visit.headers["x-accel-buffering"] == "no"
        assert visit.headers["set-cookie"].startswith("flavour=oat")


async def test_events_arrive_one_write_per_turn(exchange: Exchange, place: Callable[[View], None]) -> None:
    """What is published while a client is waited for is one part of the body."""
    place(news_view)
    async with Visit("/") as visit:
        await visit.event("sse-open")
        await turns()
        exchange.publish("news", "1", "2", "3")
        await visit.read()

        assert visit.names == ["sse-open", "message", "message", "message"]


async def test_a_client_that_goes_is_forgotten(exchange: Exchange, place: Callable[[View], None]) -> None:
    """A disconnect in the middle of waiting ends the stream, and nothing more is queued for it."""
    place(news_view)
    async with Visit("/") as one, Visit("/") as two:
        await one.event("sse-open")
        await two.event("sse-open")
        assert len(exchange.hub.streams) == len(exchange.hub.followers["news"].streams) == 2
        await one.leave()
        await eventually(lambda: len(exchange.hub.streams) == 1)
        assert len(exchange.hub.followers["news"].streams) == 1

        exchange.publish("news", "1")
        assert (await two.event()).text == "1"
    await eventually(lambda: is_left(exchange))


async def test_a_client_that_goes_before_the_positions_are_known(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """A disconnect while the history is down leaves nothing behind when it is back."""
    exchange.history.fault = HistoryError("down")
    place(news_view)
    async with Visit("/") as visit:
        assert (await visit.read()).startswith(b"retry: ")
    exchange.history.fault = None

    await eventually(exchange.hub.followers["news"].ready.is_set)
    await eventually(lambda: is_left(exchange))


async def test_a_client_that_goes_at_once(exchange: Exchange, place: Callable[[View], None]) -> None:
    """A disconnect before the first part was even asked for leaves nothing behind."""
    begun = asyncio.Event()

    async def view(request: HttpRequest) -> HttpResponseBase:
        begun.set()
        return news(request)

    place(view)
    async with Visit("/", answered=False) as visit:
        await eventually(begun.is_set)
        await visit.leave()

    await eventually(lambda: is_left(exchange))


async def test_the_end_is_clean(exchange: Exchange, place: Callable[[View], None]) -> None:
    """A stream that ends by itself is a complete response."""
    place(news_view)
    async with Visit("/") as visit:
        await visit.event("sse-open")
        for stream in list(exchange.hub.streams):
            assert isinstance(stream, BaseStream)
            stream.end("age")
        await visit.rest()
        assert visit.names == ["sse-open", "sse-close"]


async def test_a_drain_ends_with_the_response(
    exchange: Exchange, place: Callable[[View], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until the server has the whole response, and no longer: here there is no grace to wait for."""
    monkeypatch.setattr(drain, "GRACE", 3600)
    place(news_view)
    async with Visit("/") as visit:
        await visit.event("sse-open")
        await asyncio.wait_for(drain.drain(exchange.hub), 10)
        await visit.rest()
        assert visit.names == ["sse-open", "sse-close"]


# -- faults: no exception leaves the iterator --------------------------------------------------------


def fail(*_: object) -> Any:
    """Have a bug."""
    message = "a bug"
    raise RuntimeError(message)


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_stream_that_cannot_compose_ends_its_response(
    exchange: Exchange,
    place: Callable[[View], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    waiting: bool,
) -> None:
    """A fault in a stream is logged, and its response is complete, while it waits or while it writes."""
    place(news_view)
    if not waiting:
        monkeypatch.setattr(Stream, "compose", fail)
    async with Visit("/") as visit:
        if waiting:
            await visit.event("sse-open")
            await turns()
            monkeypatch.setattr(Stream, "_frames", fail)
            exchange.publish("news", "1")
        await visit.rest()

    assert "A stream failed" in caplog.text
    assert is_left(exchange)


@pytest.mark.parametrize("method", ["open", "look"])
async def test_whatever_fails_in_a_stream_ends_its_response(
    exchange: Exchange,
    place: Callable[[View], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    """No exception reaches the server, whose later requests it would damage."""
    monkeypatch.setattr(Stream, method, fail)
    place(news_view)
    async with Visit("/") as visit:
        await visit.rest()

    assert "A stream failed" in caplog.text
    await eventually(lambda: is_left(exchange))


async def test_a_response_is_iterated_once(exchange: Exchange) -> None:
    """Behind its end a response stays ended, and closing it in any order and number is harmless."""
    request = RequestFactory().get("/")
    request.scope = {}  # type: ignore[attr-defined]
    response = news(request)
    assert aiter(response) is aiter(response)
    content = cast("Any", aiter(response))
    assert (await anext(content)).startswith(b"retry: ")
    await content.aclose()
    response.close()
    await content.aclose()

    async with asyncio.timeout(10):
        with pytest.raises(StopAsyncIteration):
            await anext(content)
    assert is_left(exchange)


# -- middleware --------------------------------------------------------------------------------------


@async_only_middleware
def wrapping(get_response: View) -> View:
    """Pass every part of a body on, behind a mark."""

    async def marked(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for part in content:
            yield b":marked\n" + part

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response: Any = await get_response(request)
        response.streaming_content = marked(response.streaming_content)
        return cast("HttpResponseBase", response)

    return middleware


async def test_a_middleware_may_wrap_the_content(
    exchange: Exchange, place: Callable[[View], None], settings: Settings
) -> None:
    """Wrapped, a stream works, and is closed when its client goes."""
    settings.MIDDLEWARE = [f"{__name__}.wrapping"]
    place(news_view)
    async with Visit("/") as visit:
        await visit.event("sse-open")
        exchange.publish("news", "1")
        assert (await visit.event()).text == "1"
        assert visit.body.startswith(":marked\n")

    await eventually(lambda: is_left(exchange))


async def test_gzip_leaves_it_alone(
    exchange: Exchange, place: Callable[[View], None], settings: Settings
) -> None:
    """Compression, which would hold events back, does not touch a stream."""
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware"]
    place(news_view)
    async with Visit("/", headers={"Accept-Encoding": "gzip"}) as visit:
        assert visit.headers["content-encoding"] == "identity"
        await visit.event("sse-open")
        exchange.publish("news", "1")
        assert (await visit.event()).text == "1"


# -- WSGI --------------------------------------------------------------------------------------------


def test_wsgi_is_answered_by_a_sentence() -> None:
    """Under WSGI, where a stream would hold its worker for good, the answer is 501 and what to do."""

    async def never() -> AsyncIterator[str]:
        pytest.fail("the iterator was started")
        yield ""

    response = EventStreamResponse(never(), request=RequestFactory().get("/"))

    assert response.status_code == 501
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert "need ASGI" in response.getvalue().decode()


# -- a project's own iterator ------------------------------------------------------------------------


async def test_an_iterators_events_and_its_end(exchange: Exchange, place: Callable[[View], None]) -> None:
    """A view streams what its iterator gives; the end carries the id that keeps the browser away."""

    async def steps() -> AsyncIterator[Streamable]:
        yield Event(name="step", text="1")
        yield "two"
        yield {"three": 3}

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(steps(), request=request)

    place(view)
    async with Visit("/") as visit:
        assert visit.headers["x-accel-buffering"] == "no"
        await visit.rest()

    assert [(message.name, message.text) for message in visit.messages] == [
        ("step", "1"),
        ("message", "two"),
        ("message", '{"three":3}'),
        ("sse-close", '{"reason":"end","reconnect":false}'),
    ]
    assert visit.parser.last_event_id == "end"
    await eventually(lambda: is_left(exchange))


@pytest.mark.parametrize("fault", ["raises", "reserved"])
async def test_an_iterator_that_fails(
    exchange: Exchange, place: Callable[[View], None], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """A fault is logged, the client is told, the response is complete, and the server hears nothing of it."""

    async def steps() -> AsyncIterator[Streamable]:
        yield "1"
        if fault == "raises":
            fail()
        yield Event(name="sse-open", text="")

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(steps(), request=request)

    place(view)
    async with Visit("/") as visit:
        await visit.rest()
    assert visit.names == ["message", "sse-close"]
    assert json.loads(visit.messages[-1].text) == {"reason": "error", "reconnect": False}
    assert "The iterator of an event stream failed" in caplog.text


async def test_a_slow_iterator_has_heartbeats(settings: Settings, place: Callable[[View], None]) -> None:
    """While a project's code thinks, the connection shows life."""
    done = asyncio.Event()

    async def steps() -> AsyncIterator[str]:
        await done.wait()
        yield "1"

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(steps(), request=request)

    place(view)
    async with open_exchange(settings, HEARTBEAT=0.02), Visit("/") as visit:
        async with asyncio.timeout(10):
            while visit.body.count(HEARTBEAT.decode()) < 3:
                await visit.read()
        done.set()
        assert (await visit.event()).text == "1"


@pytest.mark.parametrize(
    ("target", "headers"),
    [("/", {"Last-Event-ID": "end"}), ("/?lastEventId=end", {})],
    ids=["header", "query"],
)
async def test_coming_back_after_the_end(
    exchange: Exchange, place: Callable[[View], None], target: str, headers: dict[str, str]
) -> None:
    """A browser that reconnects behind an iterator's end gets 204, which stops it; nothing runs twice."""

    async def never() -> AsyncIterator[str]:
        pytest.fail("the iterator was started")
        yield ""

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(never(), request=request)

    place(view)
    async with Visit(target, headers=headers) as visit:
        assert visit.status == 204
        assert await visit.rest() == ""
        assert "content-type" not in visit.headers


async def test_a_client_that_goes_ends_the_iterator(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """The `finally` of a project's iterator runs when its client is gone, in the middle of waiting."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def steps() -> AsyncIterator[str]:
        try:
            yield "1"
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    kept = steps()

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(kept, request=request)

    place(view)
    async with Visit("/") as visit:
        await visit.event()
        await eventually(begun.is_set)

    await eventually(ended.is_set)
    await eventually(lambda: is_left(exchange))


async def test_an_iterator_may_use_the_database(
    exchange: Exchange, place: Callable[[View], None], transactional_db: None, real_closing: None
) -> None:
    """A project's iterator runs in its request's context, where the ORM works as often as it is used."""

    async def steps() -> AsyncIterator[str]:
        for _ in range(3):
            yield str(await User.objects.acount())

    async def view(request: HttpRequest) -> HttpResponseBase:
        return EventStreamResponse(steps(), request=request)

    place(view)
    async with Visit("/") as visit:
        await visit.rest()

    assert [message.text for message in visit.messages[:-1]] == ["0", "0", "0"]
    await eventually(lambda: len(SyncToAsync.context_to_thread_executor) == 0)


# -- the request's thread and connections ------------------------------------------------------------


@pytest.fixture
def real_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the connections of requests as if the database were on disk."""
    close_really(monkeypatch)


class Used:
    """What a request has used: its thread, and that thread's connection."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.connection: Any = None

    def note(self) -> None:
        """Note them, in the request's thread."""
        self.thread, self.connection = threading.current_thread(), connections["default"]

    @property
    def is_released(self) -> bool:
        """Whether nothing of it is held any more."""
        assert self.thread is not None
        assert self.connection is not None
        return not self.thread.is_alive() and self.connection.connection is None


@pytest.mark.parametrize("saves", [False, True], ids=["", "a middleware used it later"])
async def test_the_requests_thread_and_connection_are_released(
    exchange: Exchange,
    place: Callable[[View], None],
    settings: Settings,
    transactional_db: None,
    real_closing: None,
    *,
    saves: bool,
) -> None:
    """Once a stream has begun, no thread and no connection is its own, whoever has used them before."""
    used = Used()
    settings.SESSION_SAVE_EVERY_REQUEST = saves

    async def view(request: HttpRequest) -> HttpResponseBase:
        await request.session.aset("been", "here")
        await User.objects.acount()
        await sync_to_async(used.note)()
        assert used.connection is not None
        assert used.connection.connection is not None
        return news(request)

    place(view)
    before = threading.active_count()
    async with Visit("/") as one, Visit("/") as two:
        await one.event("sse-open")
        await two.event("sse-open")
        await eventually(lambda: used.is_released)
        await eventually(lambda: threading.active_count() <= before)
        assert len(SyncToAsync.context_to_thread_executor) == 0
        exchange.publish("news", "1")
        assert (await one.event()).text == (await two.event()).text == "1"

    assert len(SyncToAsync.context_to_thread_executor) == 0


async def test_a_request_without_a_database_holds_no_thread(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """Also the thread that Django's own signal receivers needed is released."""
    place(news_view)
    before = threading.active_count()
    async with Visit("/") as visit:
        await visit.event("sse-open")

        await eventually(lambda: threading.active_count() <= before)
        assert len(SyncToAsync.context_to_thread_executor) == 0
