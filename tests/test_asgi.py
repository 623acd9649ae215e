"""Under the lean handler Django finishes the request, and the stream writes by the server's own `send`."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, cast
from weakref import ref

import pytest
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path, re_path
from pytest_django import Settings

from django_sse import drain
from django_sse.asgi import ADMITTED, Brake, LeanHandler, get_asgi_application
from django_sse.conf import get_settings
from django_sse.responses import EventStreamResponse
from django_sse.streams import Stream
from django_sse.wire import Message, Parser
from tests.exchange import Exchange, open_exchange
from tests.visits import Visit
from tests.waiting import eventually, turns

View = Callable[[HttpRequest], Coroutine[Any, Any, HttpResponseBase]]

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "headers": [(b"host", b"testserver"), (b"accept", b"text/event-stream")],
}


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visit through the lean handler."""
    monkeypatch.setattr(Visit, "handler", get_asgi_application)


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test."""
    async with open_exchange(settings) as exchange:
        yield exchange


@pytest.fixture
def place(settings: Settings) -> Callable[[View], None]:
    """Return what makes a view the only one of the site."""

    def place(view: View) -> None:
        settings.ROOT_URLCONF = (re_path("", view),)

    return place


async def news(request: HttpRequest) -> HttpResponseBase:
    """Stream the news."""
    return EventStreamResponse(Stream(["news"], settings=get_settings()), request=request)


class Server:
    """A server with one client, whose `send` waits while its gate is closed."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self.sending = self.most_sending = 0
        self.messages: list[dict[str, Any]] = []
        self.events: list[Message] = []
        self.received = 0
        self.gone = asyncio.Event()
        self._parser = Parser()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        """Give the request, then wait for the client to go; cancelled, it is good for nothing any more."""
        self.received += 1
        if self.received == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        assert self.received == 2, "called again behind a cancellation"
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message, when the gate is open."""
        self.sending += 1
        self.most_sending = max(self.most_sending, self.sending)
        try:
            if self.fault is not None:
                raise self.fault
            await self.gate.wait()
            if not self.gate.is_set():
                await asyncio.sleep(0)
        finally:
            self.sending -= 1
        self.messages.append(message)
        self.events += self._parser.feed(message.get("body", b""))

    @property
    def texts(self) -> list[str]:
        """The texts of the project's events."""
        return [event.text for event in self.events if event.name == "message"]

    @property
    def is_complete(self) -> bool:
        """Whether the response has its end."""
        return len(self.messages) > 1 and not self.messages[-1]["more_body"]


@asynccontextmanager
async def serving(
    server: Server, application: Any = None, send: Callable[..., Awaitable[None]] | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Run the application for the server's client, who goes at the end; raise what it raises."""
    application = application or LeanHandler()
    call = application(dict(SCOPE), server.receive, send or server.send)
    task = asyncio.get_running_loop().create_task(call)
    try:
        yield task
    finally:
        server.gone.set()
        async with asyncio.timeout(10):
            with suppress(asyncio.CancelledError):
                await task


def is_left(exchange: Exchange) -> bool:
    """Tell whether nobody streams or follows anything here."""
    return not exchange.hub.streams and all(
        not follower.streams for follower in exchange.hub.followers.values()
    )


def end_all(exchange: Exchange) -> None:
    """End every stream, as its age does."""
    for stream in list(exchange.hub.streams):
        assert isinstance(stream, Stream)
        stream.end("age")


# -- the handover ------------------------------------------------------------------------------------


async def test_django_has_finished_when_the_stream_begins(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """Signal, cookies and the request's objects are dealt with before the first byte; nothing holds them."""
    finished: list[int] = []
    requests: list[ref[HttpRequest]] = []
    server = Server()

    async def view(request: HttpRequest) -> HttpResponseBase:
        requests.append(ref(request))
        response = await news(request)
        response.set_cookie("flavour", "oat")
        return response

    def note(**_: object) -> None:
        finished.append(len(server.messages))

    place(view)
    request_finished.connect(note)
    try:
        async with serving(server):
            await eventually(lambda: server.events)
            assert finished == [1], "the head, and nothing of the stream"
            assert b"flavour=oat" in dict(server.messages[0]["headers"])[b"Set-Cookie"]
            gc.collect()
            assert requests[0]() is None
            exchange.publish("news", "1")
            await eventually(lambda: server.texts == ["1"])
    finally:
        request_finished.disconnect(note)
    assert is_left(exchange)


async def test_ordinary_responses_are_djangos(exchange: Exchange, place: Callable[[View], None]) -> None:
    """What is no stream is sent as ever, and a client that goes cancels its view."""
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def view(request: HttpRequest) -> HttpResponseBase:
        if request.path == "/slow":
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
        return HttpResponse("hello")

    place(view)
    async with Visit("/") as visit:
        assert (visit.status, await visit.rest()) == (200, "hello")
    async with Visit("/slow", answered=False):
        await eventually(entered.is_set)
    await eventually(cancelled.is_set)


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_other_protocols_are_refused(kind: str) -> None:
    """Like Django's own, the handler says that it speaks HTTP alone."""
    server = Server()
    with pytest.raises(ValueError, match="only handle ASGI/HTTP"):
        await LeanHandler()({"type": kind}, server.receive, server.send)


async def test_under_channels_routers(
    exchange: Exchange, settings: Settings, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> None:
    """Behind ProtocolTypeRouter, URLRouter and AuthMiddlewareStack streams are handed over too."""
    settings.ROOT_URLCONF = (path("news/", news),)
    routes: Any = [re_path("^news/", cast("Any", get_asgi_application()))]
    inner = AuthMiddlewareStack(URLRouter(routes))
    monkeypatch.setattr(Visit, "handler", lambda: ProtocolTypeRouter({"http": inner}))
    async with Visit("/news/") as visit:
        await visit.event("sse-open")
        exchange.publish("news", "1")
        assert (await visit.event()).text == "1"
    await eventually(lambda: is_left(exchange))


async def test_a_client_that_goes_before_its_answer(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """A disconnect while Django works opens no stream."""
    server = Server()

    async def view(request: HttpRequest) -> HttpResponseBase:
        server.gone.set()
        await turns()
        return await news(request)

    place(view)
    async with serving(server) as task:
        await asyncio.wait([task], timeout=10)
    assert not server.events
    assert is_left(exchange)


async def test_a_client_that_goes_at_the_handover(exchange: Exchange, place: Callable[[View], None]) -> None:
    """A disconnect between the head and the first bytes leaves nothing behind."""
    server = Server()

    def go(**_: object) -> None:
        exchange.hub.loop.call_soon_threadsafe(server.gone.set)

    place(news)
    request_finished.connect(go)
    try:
        async with serving(server) as task:
            await asyncio.wait([task], timeout=10)
    finally:
        request_finished.disconnect(go)
    assert task.done()
    assert is_left(exchange)


async def test_a_server_that_ends_its_application(exchange: Exchange, place: Callable[[View], None]) -> None:
    """Cancelled by its server, a stream is forgotten."""
    server = Server()
    place(news)
    async with serving(server) as task:
        await eventually(lambda: server.events)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
    assert is_left(exchange)


# -- a server that waits -----------------------------------------------------------------------------


async def test_a_server_that_waits_is_sent_nothing_more(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """While `send` waits nothing else is sent; what was queued meanwhile then leaves as one write."""
    server = Server()
    place(news)
    async with serving(server):
        await eventually(lambda: server.events)
        await turns()
        server.gate.clear()
        before = len(server.messages)
        for text in "1234":
            exchange.publish("news", text)
            await turns()
        assert len(server.messages) == before
        server.gate.set()
        await eventually(lambda: server.texts == ["1", "2", "3", "4"])
        assert len(server.messages) == before + 2
        assert server.most_sending == 1


async def test_the_end_comes_behind_what_waits(exchange: Exchange, place: Callable[[View], None]) -> None:
    """A stream that ends while `send` waits is completed when the server has room."""
    server = Server()
    place(news)
    async with serving(server) as task:
        await eventually(lambda: server.events)
        await turns()
        server.gate.clear()
        exchange.publish("news", "1")
        await turns()
        end_all(exchange)
        await turns()
        assert not server.is_complete
        server.gate.set()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        assert server.is_complete
        assert [event.name for event in server.events] == ["sse-open", "message", "sse-close"]


async def test_a_drain_gives_up_a_server_that_waits(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """A client that takes nothing does not keep the process: its response is left incomplete."""
    server = Server()
    place(news)
    async with serving(server) as task:
        await eventually(lambda: server.events)
        await turns()
        server.gate.clear()
        exchange.publish("news", "1")
        await eventually(lambda: server.sending == 1)
        await asyncio.wait_for(drain.drain(exchange.hub), 10)
        await asyncio.wait([task], timeout=10)
        assert task.done()
        assert not server.is_complete
        await eventually(lambda: server.sending == 0)


async def test_a_client_that_goes_while_its_server_waits(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """A disconnect ends the `send` that waits, and the stream."""
    server = Server()
    place(news)
    async with serving(server) as task:
        await eventually(lambda: server.events)
        await turns()
        server.gate.clear()
        exchange.publish("news", "1")
        await eventually(lambda: server.sending == 1)
        server.gone.set()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        await eventually(lambda: server.sending == 0)
    assert is_left(exchange)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_server_that_fails_is_left_alone(
    exchange: Exchange, place: Callable[[View], None], *, waits: bool
) -> None:
    """What `send` raises, at once or behind a wait, ends the stream, and the application returns."""
    server = Server()

    async def send(message: dict[str, Any]) -> None:
        if waits:
            await asyncio.sleep(0)
        await server.send(message)

    place(news)
    async with serving(server, send=send) as task:
        await eventually(lambda: server.events)
        server.fault = OSError("gone")
        exchange.publish("news", "1")
        await asyncio.wait([task], timeout=10)
        assert task.done()
        assert task.exception() is None
    assert is_left(exchange)


async def test_a_wrapped_send_may_hold_context_variables(
    exchange: Exchange, place: Callable[[View], None]
) -> None:
    """A tracing middleware sets a variable around `send` and takes it back, across the wait."""
    server = Server()
    span: ContextVar[str] = ContextVar("span", default="none")

    async def send(message: dict[str, Any]) -> None:
        token = span.set("sending")
        await server.send(message)
        span.reset(token)

    place(news)
    async with serving(server, send=send) as task:
        await eventually(lambda: server.events)
        await turns()
        for text in "12":
            server.gate.clear()
            exchange.publish("news", text)
            await turns()
            server.gate.set()
            await turns()
        await eventually(lambda: server.texts == ["1", "2"])
        assert not task.done()


# -- daphne ------------------------------------------------------------------------------------------


class Protocol:
    """What daphne's `send` is a partial of: a Twisted consumer with one producer."""

    def __init__(self) -> None:
        self.channel: object | None = object()
        self.producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001, N802
        """Take a push producer."""
        assert streaming
        assert self.producer is None
        self.producer = producer

    def unregisterProducer(self) -> None:  # noqa: N802
        """Forget it."""
        self.producer = None


async def test_daphne_brakes(exchange: Exchange, place: Callable[[View], None]) -> None:
    """While the connection's buffer is full nothing is written; the end is, without a producer."""
    server, protocol = Server(), Protocol()

    async def handle_reply(protocol: Protocol, message: dict[str, Any]) -> None:
        assert message.get("more_body", True) or protocol.producer is None, "Twisted would complain"
        await server.send(message)
        if b"data: full\n" in message.get("body", b""):
            protocol.producer.pauseProducing()

    place(news)
    async with serving(server, send=partial(handle_reply, protocol)) as task:
        await eventually(lambda: server.events)
        exchange.publish("news", "full")
        await turns()
        exchange.publish("news", "1")
        await turns()
        exchange.publish("news", "2")
        await turns()
        assert server.texts == ["full"]
        protocol.producer.resumeProducing()
        await eventually(lambda: server.texts == ["full", "1", "2"])
        end_all(exchange)
        await asyncio.wait([task], timeout=10)
        assert task.done()
        assert server.is_complete


async def test_a_brake_outlives_its_connection() -> None:
    """A connection that is gone has no producer to take, or to give back."""
    server, protocol = Server(), Protocol()
    send: Any = partial(server.send, cast("Any", protocol))
    brake = Brake.of(send, released=pytest.fail)
    assert brake is not None
    protocol.channel = None
    brake.stopProducing()
    brake.dismount()
    assert protocol.producer is brake
    assert Brake.of(send, released=pytest.fail) is None


# -- a storm of reconnecting clients -----------------------------------------------------------------


async def test_a_storm_is_admitted_in_turns(
    exchange: Exchange, place: Callable[[View], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many clients that come at once Django sees a fixed number; other requests go past them."""
    gate, inside, most = asyncio.Event(), 0, 0

    async def view(request: HttpRequest) -> HttpResponseBase:
        nonlocal inside, most
        if request.path == "/":
            return HttpResponse("hello")
        inside += 1
        most = max(most, inside)
        try:
            await gate.wait()
        finally:
            inside -= 1
        return await news(request)

    place(view)
    handler = LeanHandler()
    monkeypatch.setattr(Visit, "handler", lambda: handler)
    accept = {"Accept": "text/event-stream"}
    visits = [Visit("/events", headers=accept, answered=False) for _ in range(3 * ADMITTED)]
    for visit in visits:
        await visit.__aenter__()
    await eventually(lambda: inside == ADMITTED)
    await turns()
    async with Visit("/") as visit:
        assert await visit.rest() == "hello"
    assert inside == ADMITTED
    await visits[0].leave()  # one that was admitted; another one takes its place
    gate.set()
    await visits[-1].leave()  # and one that waits
    await eventually(lambda: len(exchange.hub.streams) == len(visits) - 2)
    assert most == ADMITTED
    for visit in visits[1:-1]:
        await visit.leave()
    await eventually(lambda: is_left(exchange))
