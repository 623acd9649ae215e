"""A project's tests see what was sent and what waits for the commit, and read streams, everywhere."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import AsyncClient, TestCase
from django.urls import path
from pytest_django import Settings

from django_sse import EventStreamResponse, asend_event, send_event, user_topic
from django_sse.asgi import get_asgi_application
from django_sse.streams import Streamable
from django_sse.testing import CapturedEvent, capture_events, read_stream
from django_sse.wire import CONTENT_TYPE, Event
from tests.app.models import Article
from tests.exchange import Exchange, open_exchange


class ATestCase(TestCase):
    """In a TestCase nothing is ever committed, so everything waits."""

    def test_what_waits_is_seen(self) -> None:
        """An event that waits for the commit is there, with its data, and nothing was sent."""
        send_event("board", "before", 0)
        with capture_events() as events:
            send_event(["board", "news"], "notice-created", {"id": 5})
            assert events.sent == []
            assert len(events) == 2
        assert events.pending == list(events)
        assert events[0] == CapturedEvent(topic="board", name="notice-created", text='{"id":5}', pending=True)
        assert [event.topic for event in events[:]] == ["board", "news"]
        assert events[1].data == {"id": 5}

    def test_what_is_executed_was_sent(self) -> None:
        """Django's captureOnCommitCallbacks sends what waits, here and not twice."""
        with capture_events() as events, self.captureOnCommitCallbacks(execute=True):
            send_event("board", "notice-created", 1)
        assert [(event.name, event.pending) for event in events] == [("notice-created", False)]

    def test_what_is_rolled_back_is_not_there(self) -> None:
        """A savepoint that is rolled back takes its events along."""
        with capture_events() as events:
            with transaction.atomic():
                send_event("board", "notice-created", 1)
                assert len(events) == 1
                transaction.set_rollback(True)
            send_event("board", "notice-deleted", 1)
        assert [event.name for event in events] == ["notice-deleted"]

    def test_model_events_are_seen_merged(self) -> None:
        """What a transaction has to tell of a row is one event, where it would be sent."""
        article = Article.objects.create(title="One")
        with capture_events() as events, transaction.atomic():
            new = Article.objects.create(title="New")
            gone = Article.objects.create(title="Gone")
            article.save()
            new.title = "Newer"
            new.save()
            send_event("articles", "between", 0)
            gone.delete()
            with transaction.atomic():
                article.delete()
                transaction.set_rollback(True)
        assert [(event.name, event.data["title"]) for event in events if event.name != "between"] == [
            ("article-updated", "One"),
            ("article-created", "Newer"),
        ]
        assert events[0].name == "between", "model events are sent together, where the last was"

    def test_each_save_is_one_of_its_own(self) -> None:
        """A TestCase is one transaction, but what it tests would be several."""
        with capture_events() as events:
            article = Article.objects.create(title="One")
            article.save()
            article.delete()
        assert [event.name for event in events] == ["article-created", "article-updated", "article-deleted"]

    def test_model_events_are_sent_again_and_again(self) -> None:
        """Each captureOnCommitCallbacks sends what was done in it, merged, and nothing twice."""
        article = Article.objects.create(title="One")
        with capture_events() as events:
            for title in ("Two", "Three"):
                with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
                    article.title = "Between"
                    article.save()
                    article.title = title
                    article.save()
            with self.captureOnCommitCallbacks(execute=True):
                article.delete()
                Article.objects.create(title="Four")
        assert [(event.name, event.data["title"]) for event in events.sent] == [
            ("article-updated", "Two"),
            ("article-updated", "Three"),
            ("article-deleted", "Three"),
            ("article-created", "Four"),
        ]
        assert events.pending == []

    def test_a_callback_may_save(self) -> None:
        """What a callback of the test's saves is sent with the rest."""
        article = Article.objects.create(title="One")
        commit = self.captureOnCommitCallbacks(execute=True)
        with capture_events() as events, commit, transaction.atomic():
            article.save()
            transaction.on_commit(lambda: Article.objects.create(title="Two"))
            article.save()
        assert [(event.name, event.data["title"]) for event in events.sent] == [
            ("article-updated", "One"),
            ("article-created", "Two"),
        ]

    async def test_async_events_are_seen(self) -> None:
        """What is sent from a coroutine is sent at once; what a function sends in a thread waits."""
        with capture_events() as events:
            await asend_event("board", "one", 1)
            await sync_to_async(send_event)("board", "two", 2)
            pending = await sync_to_async(lambda: events.pending)()
        assert [event.name for event in events.sent] == ["one"]
        assert [event.name for event in pending] == ["two"]


@pytest.mark.django_db(transaction=True)
def test_a_commit_sends() -> None:
    """Where transactions are real, an event is pending in them, and sent behind them."""
    with capture_events() as events:
        with transaction.atomic():
            send_event("board", "notice-created", 1)
            assert [event.pending for event in events] == [True]
        assert [event.pending for event in events] == [False]
    send_event("board", "later", 1)
    assert [event.name for event in events] == ["notice-created"]


def test_without_a_database() -> None:
    """Plain functions that send need nothing but the block; recipients and names choose."""
    ann, bob = User(pk=1), User(pk=2)
    with capture_events() as events:
        send_event([ann, "board"], "message", text="hello", on_commit=False)
        send_event(bob, "alert", text="not JSON", on_commit=False)

    assert [event.topic for event in events.to(ann)] == [user_topic(ann)]
    assert [event.text for event in events.to([bob, "board"])] == ["hello", "not JSON"]
    assert [event.topic for event in events.named("alert")] == [user_topic(bob)]
    assert "not JSON" in repr(events)
    with pytest.raises(ValueError, match="Expecting value"):
        _ = events.named("alert")[0].data


# -- reading streams --------------------------------------------------------------------------------


Source = HttpResponseBase | ApplicationCommunicator


def communicator(application: Any, target: str) -> ApplicationCommunicator:
    """Return a communicator that was sent its request."""
    name, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": "GET",
        "path": name,
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver")],
    }
    asked = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]
    asked.input_queue.put_nowait({"type": "http.request"})
    return asked


async def by_client(target: str) -> Source:
    """Ask through Django's client."""
    return await AsyncClient().get(target)


async def by_lean_handler(target: str) -> Source:
    """Ask through the handler of this package."""
    return communicator(get_asgi_application(), target)


async def by_own_handler(target: str) -> Source:
    """Ask through Django's own handler."""
    return communicator(ASGIHandler(), target)


every_way = pytest.mark.parametrize("ask", [by_client, by_lean_handler, by_own_handler])


@pytest.fixture
async def nothing_is_left() -> AsyncIterator[None]:
    """Let no task outlive the test."""
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


@pytest.fixture
async def exchange(nothing_is_left: None, settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test, whose streams are closed at the end."""
    async with open_exchange(settings) as exchange:
        yield exchange
        assert not exchange.hub.streams


class Site:
    """Views over an iterator of a project, which notes that it was closed."""

    def __init__(self) -> None:
        self.left = False
        self.finished = asyncio.Event()

    async def events(self) -> AsyncIterator[Streamable]:
        """Give two events, then wait."""
        try:
            yield Event(name="price", text="1")
            yield Event(name="stock", text="[5]")
            await self.finished.wait()
        finally:
            self.left = True

    async def stream(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the events."""
        return EventStreamResponse(self.events(), request=request)

    async def flood(self, request: HttpRequest) -> HttpResponseBase:
        """Stream without a pause and without an end."""

        async def numbers() -> AsyncIterator[bytes]:
            for number in count():
                yield b"data: %d\n\n" % number

        return StreamingHttpResponse(numbers(), content_type=CONTENT_TYPE)

    async def fail(self, request: HttpRequest) -> HttpResponseBase:
        """Fail behind the first event."""

        async def failing() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            raise LookupError("no second event")

        return StreamingHttpResponse(failing(), content_type=CONTENT_TYPE)

    async def page(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with no stream."""
        return HttpResponse("sign in", status=403)


@pytest.fixture
async def site(exchange: Exchange, settings: Settings) -> Site:
    """Return the site that is asked."""
    site = Site()
    settings.ROOT_URLCONF = tuple(
        path(name, getattr(site, name)) for name in ("stream", "flood", "fail", "page")
    )
    return site


Ask = Callable[[str], Any]


@every_way
async def test_an_event_is_received(ask: Ask, exchange: Exchange) -> None:
    """What is sent after the opening comes, whichever way the stream was asked for."""
    async with read_stream(await ask("/events/?topic=news")) as stream:
        opened = await stream.until_open()
        assert opened["topics"] == ["news"]
        await asend_event("news", "headline", {"text": "Tea"})
        event = await stream.next()
        assert (event.name, event.data) == ("headline", {"text": "Tea"})
        assert event.id.startswith("1~")
        assert [event.name for event in stream.seen] == ["sse-open", "headline"]


@every_way
async def test_a_stream_that_was_not_read_is_closed(ask: Ask, site: Site) -> None:
    """A block may end at once, or with events that nobody has asked for."""
    async with read_stream(await ask("/stream")):
        pass
    async with read_stream(await ask("/stream")) as stream:
        await stream.next("stock")
    assert site.left


@every_way
async def test_late_is_what_does_not_come(ask: Ask, site: Site) -> None:
    """The message says what was waited for and what has come; the stream can be read on."""
    async with read_stream(await ask("/stream")) as stream:
        assert (await stream.next("stock")).data == [5]
        said = "event 'price' did not come within 0 s; seen: price '1', stock '[5]'"
        with pytest.raises(TimeoutError, match=re.escape(said)):
            await stream.next("price", timeout=0)
        site.finished.set()
        assert (await stream.next("sse-close")).data["reconnect"] is False


async def test_the_time_is_that_of_the_reader(site: Site) -> None:
    """A stream may be given another time for all that is waited for."""
    async with read_stream(await by_client("/stream"), timeout=0.01) as stream:
        with pytest.raises(TimeoutError, match=re.escape("an event did not come within 0.01 s")):
            async for _ in stream:
                pass


@every_way
async def test_the_end_of_the_stream_ends_the_iteration(ask: Ask, site: Site) -> None:
    """The project's events are iterated; behind them nothing is waited for any more."""
    site.finished.set()
    async with read_stream(await ask("/stream")) as stream:
        assert [event.text async for event in stream] == ["1", "[5]"]
        assert [event.text async for event in stream] == []
        said = "the stream ended without event 'price'; seen: price '1', stock '[5]', sse-close "
        with pytest.raises(AssertionError, match=re.escape(said)):
            await stream.next("price")


async def test_an_endless_stream_is_not_read_for_ever(site: Site) -> None:
    """A stream that never waits lets the test go on, and is given up."""
    async with read_stream(await by_client("/flood")) as stream:
        assert [(await stream.next()).data for _ in range(3)] == [0, 1, 2]
        with pytest.raises(TimeoutError, match="event 'end' did not come"):
            await stream.next("end", timeout=0.01)


async def test_what_a_stream_raises_is_raised(site: Site) -> None:
    """An error is the test's, behind the events before it."""
    async with read_stream(await by_client("/fail")) as stream:
        assert (await stream.next()).text == "1"
        with pytest.raises(LookupError, match="no second event"):
            await stream.next()


@every_way
async def test_another_answer_is_no_stream(ask: Ask, site: Site) -> None:
    """A page, such as a refusal, is told by its status."""
    with pytest.raises(AssertionError, match="no event stream: status 403, text/html"):
        async with read_stream(await ask("/page")) as stream:
            await stream.next()


async def test_a_whole_body_is_no_stream() -> None:
    """A response that has its body already is refused, though its type is right."""
    with pytest.raises(AssertionError, match="does not stream"):
        async with read_stream(HttpResponse(content_type=CONTENT_TYPE)):
            pass


async def test_a_stream_that_does_not_close_is_told(nothing_is_left: None) -> None:
    """A stream that waits where it should end is given up, with what has come."""
    released, left = asyncio.Event(), asyncio.Event()

    async def stubborn() -> AsyncIterator[bytes]:
        try:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            await released.wait()
            left.set()

    response = StreamingHttpResponse(stubborn(), content_type=CONTENT_TYPE)
    said = "the stream did not close within 0.01 s; seen: message '1'"
    with pytest.raises(TimeoutError, match=re.escape(said)):
        async with read_stream(response, timeout=0.01) as stream:
            await stream.next(timeout=5)
    released.set()
    await left.wait()


async def test_an_application_that_stays_is_stopped(nothing_is_left: None) -> None:
    """An application that does not heed its client's going is given up, and told."""

    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=re.escape("did not end within 0.01 s")):
        async with read_stream(communicator(deaf, "/"), timeout=0.01):
            pass


async def test_an_application_that_fails_is_told(nothing_is_left: None) -> None:
    """What an application raises is raised where it is read, at once."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no application")

    with pytest.raises(LookupError, match="no application"):
        async with read_stream(communicator(failing, "/")) as stream:
            await stream.next()
