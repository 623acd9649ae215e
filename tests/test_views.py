"""The view follows what may be followed, says clearly what may not, and no request makes it fail."""

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote, urlencode

import pytest
from asgiref.sync import SyncToAsync
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import include, path, re_path
from django.utils.timezone import now
from django.utils.translation import get_language
from django.views import View
from pytest_django import Settings

from django_sse import access, followers
from django_sse.positions import Cursor, Position, topic_hash
from django_sse.views import EventStreamView, ReadinessView
from django_sse.wire import Event
from tests.exchange import Exchange, open_exchange
from tests.visits import Visit
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("handler")


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test."""
    async with open_exchange(settings) as exchange:
        yield exchange


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow some topics, to everybody."""
    monkeypatch.setattr(access, "_rules", [])
    for pattern in ("news", "prices", "room.<int:pk>", "öl", "topic<int:pk>"):
        access.allow(pattern)(yes)


def yes(request: HttpRequest, **captured: object) -> bool:
    """Allow."""
    return True


@pytest.fixture
async def ann(database: None) -> "Account":
    """Return an account."""
    return await Account.new("ann")


class Account:
    """A user who has signed in."""

    def __init__(self, user: User, cookie: str) -> None:
        self.user = user
        self.topic = f"user.{user.pk}"
        self.headers = {"Cookie": f"sessionid={cookie}"}

    @classmethod
    async def new(cls, name: str) -> "Account":
        """Make one."""
        user = await User.objects.acreate_user(name)
        client = AsyncClient()
        await client.aforce_login(user)
        return cls(user, client.cookies["sessionid"].value)


@pytest.fixture
def place(settings: Settings) -> Callable[..., None]:
    """Return what makes a view the site's only one."""

    def place(view: type[View], route: str = "", **options: Any) -> None:
        settings.ROOT_URLCONF = (path(route, view.as_view(**options)),)

    return place


async def opening(visit: Visit) -> dict[str, Any]:
    """Return what a stream says first."""
    assert visit.status == 200, visit.status
    return dict(json.loads((await visit.event("sse-open")).text))


async def sorted_topics(visit: Visit) -> dict[str, list[str]]:
    """Return what a stream says of its topics."""
    said = await opening(visit)
    assert said["hashes"] == [topic_hash(topic) for topic in said["topics"]]
    return {name: said[name] for name in ("topics", "fresh", "refused")}


def query(*topics: str, **more: str) -> str:
    """Return the address of topics."""
    return "/events/?" + urlencode([*(("topic", topic) for topic in topics), *more.items()])


# -- what is followed --------------------------------------------------------------------------------


async def test_follows_what_is_asked_for_and_allowed(exchange: Exchange) -> None:
    """Anybody may follow what the rules allow to everybody; what is refused is named, and not followed."""
    async with Visit(query("news", "secret", "room.5", "room.five", "news")) as visit:
        assert await sorted_topics(visit) == {
            "topics": ["news", "room.5"],
            "fresh": ["news", "room.5"],
            "refused": ["secret", "room.five"],
        }
        exchange.publish("secret", "no")
        exchange.publish("room.5", "yes")
        assert (await visit.event()).text == "yes"


async def test_a_users_own_topic_is_always_followed(exchange: Exchange, ann: Account) -> None:
    """Who is signed in follows their own topic, asked for or not, once."""
    async with Visit("/events/", headers=ann.headers) as visit:
        assert (await opening(visit))["topics"] == [ann.topic]
        exchange.publish(ann.topic, "for you")
        assert (await visit.event()).text == "for you"

    async with Visit(query("news", ann.topic, "secret"), headers=ann.headers) as visit:
        said = await opening(visit)
        assert said["topics"] == [ann.topic, "news"]
        assert said["refused"] == ["secret"]


async def test_nobody_follows_somebody_elses_topic(exchange: Exchange, ann: Account) -> None:
    """Another user's topic is refused like any other that no rule allows."""
    bob = await Account.new("bob")
    async with Visit(query(bob.topic), headers=ann.headers) as visit:
        assert await sorted_topics(visit) == {
            "topics": [ann.topic],
            "fresh": [ann.topic],
            "refused": [bob.topic],
        }
    async with Visit(query(bob.topic)) as visit:
        assert visit.status == 401


@pytest.mark.parametrize("target", ["/events/", query("secret"), query("user.1"), "/events/?topic="])
async def test_anonymous_without_a_topic(exchange: Exchange, target: str) -> None:
    """Where nothing may be followed and signing in would help: 401 and a sentence, never a redirect."""
    async with Visit(target) as visit:
        assert visit.status == 401
        assert visit.headers["content-type"] == "text/plain; charset=utf-8"
        assert "location" not in visit.headers
        assert visit.headers["www-authenticate"]
        assert "Sign in" in await visit.rest()


async def test_signed_in_without_a_topic(
    exchange: Exchange, ann: Account, place: Callable[..., None]
) -> None:
    """Where nothing may be followed and signing in would not help, the answer is 403 and a sentence."""

    class Nothing(EventStreamView):
        async def get_topics(self, request: HttpRequest) -> Collection[str]:
            return []

    place(Nothing)
    async with Visit("/", headers=ann.headers) as visit:
        assert visit.status == 403
        assert "django_sse.access.allow" in await visit.rest()
    async with Visit("/") as visit:
        assert visit.status == 401


async def test_too_many_topics(settings: Settings, ann: Account) -> None:
    """More topics than one stream may follow are refused before any rule is asked; the own topic counts."""
    asked = []

    @access.allow("t.<int:pk>")
    def counting(request: HttpRequest, pk: int) -> bool:
        asked.append(pk)
        return True

    async with open_exchange(settings, MAX_TOPICS=3):
        async with Visit(query("t.1", "t.2", "t.3")) as visit:
            assert len((await opening(visit))["topics"]) == 3
        asked.clear()
        async with Visit(query("t.1", "t.2", "t.3", "t.4")) as visit:
            assert visit.status == 400
            assert await visit.rest() == "4 topics are more than the 3 that one stream may follow.\n"
        assert asked == []
        async with Visit(query("t.1", "t.2", "t.3"), headers=ann.headers) as visit:
            assert visit.status == 400


async def test_too_many_streams_of_one_user(settings: Settings, ann: Account) -> None:
    """One more of a user's is turned away with 200, after which browsers come back; others are let in."""
    bob = await Account.new("bob")
    async with (
        open_exchange(settings, MAX_STREAMS_PER_USER=1),
        Visit(query("news"), headers=ann.headers) as first,
    ):
        await opening(first)
        async with Visit(query("news"), headers=ann.headers) as visit:
            assert visit.status == 200
            assert '{"reason":"limit","reconnect":true}' in await visit.rest()
        async with Visit(query("news"), headers=bob.headers) as visit:
            await opening(visit)
        async with Visit(query("news")) as visit:
            await opening(visit)


# -- readiness ---------------------------------------------------------------------------------------


async def test_a_process_is_ready_while_it_hears(
    settings: Settings, place: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first stream, and while the last comparison with the history is young; not after that."""
    place(ReadinessView)
    view: Any = ReadinessView.as_view()
    async with open_exchange(settings, CHECK=3600) as exchange:
        async with Visit("/") as visit:
            assert (visit.status, await visit.rest()) == (200, '{"staleness": null}')
            assert "no-store" in visit.headers["cache-control"]
        await exchange.hub.check()
        async with Visit("/") as visit:
            assert visit.status == 200
            assert 0 <= json.loads(await visit.rest())["staleness"] < 60
        began = exchange.hub.loop.time()
        with monkeypatch.context() as later:
            later.setattr(exchange.hub.loop, "time", lambda: began + 2.5 * 3600)
            response = await view(AsyncRequestFactory().get("/"))
        assert response.status_code == 503
        assert json.loads(response.content)["staleness"] >= 2.4 * 3600


def test_readiness_needs_asgi(place: Callable[..., None]) -> None:
    """Under WSGI there is no event loop to answer for."""
    place(ReadinessView)
    response = Client().get("/")
    assert response.status_code == 501


# -- topics of the project ---------------------------------------------------------------------------


async def test_topics_with_captures(exchange: Exchange, place: Callable[..., None]) -> None:
    """A view may name its topics, filled from the URL; the request's own wishes count for nothing then."""
    place(EventStreamView, "rooms/<int:pk>/", topics=["room.{pk}", "news"])
    async with Visit("/rooms/5/?topic=prices") as visit:
        assert await sorted_topics(visit) == {
            "topics": ["room.5", "news"],
            "fresh": ["room.5", "news"],
            "refused": [],
        }
        exchange.publish("room.5", "hello")
        assert (await visit.event()).text == "hello"


@pytest.mark.parametrize(
    "value", ["5.staff", ".", "..", "a%20b", "a%00b", "%E2%80%A8", "x" * 300, "a%0Ab"], ids=lambda v: v[:10]
)
async def test_captures_that_make_no_topic(
    exchange: Exchange, place: Callable[..., None], value: str
) -> None:
    """A capture with a dot would name somebody else's topic, and others no topic at all: 404."""
    place(EventStreamView, "rooms/<str:slug>/", topics=["room.{slug}"])
    async with Visit(f"/rooms/{unquote(value)}/") as visit:
        assert visit.status == 404


async def test_captures_with_braces(exchange: Exchange, place: Callable[..., None]) -> None:
    """A capture is filled in as it is, and never read as a template."""
    place(EventStreamView, "rooms/<str:slug>/", topics=["room.{slug}"])
    async with Visit("/rooms/{slug}{0}/") as visit:
        assert (await opening(visit))["topics"] == ["room.{slug}{0}"]


async def test_get_topics_may_be_overridden(exchange: Exchange, place: Callable[..., None]) -> None:
    """A subclass decides by itself, at every connect anew."""
    answers = [["news"], ["prices"]]

    class Chosen(EventStreamView):
        async def get_topics(self, request: HttpRequest) -> Collection[str]:
            return answers.pop(0)

    place(Chosen)
    for topic in ("news", "prices"):
        async with Visit("/") as visit:
            assert (await opening(visit))["topics"] == [topic]


async def test_get_topics_may_add_to_what_is_asked_for(
    exchange: Exchange, place: Callable[..., None]
) -> None:
    """A subclass may extend the usual answer, and what was refused is still named."""

    class More(EventStreamView):
        async def get_topics(self, request: HttpRequest) -> Collection[str]:
            return [*await super().get_topics(request), "always"]

    place(More)
    async with Visit("/?topic=news&topic=secret") as visit:
        assert await sorted_topics(visit) == {
            "topics": ["news", "always"],
            "fresh": ["news", "always"],
            "refused": ["secret"],
        }


async def test_a_project_without_authentication(exchange: Exchange, settings: Settings) -> None:
    """Without sessions and users the rules alone decide."""
    settings.MIDDLEWARE = []
    async with Visit(query("news")) as visit:
        assert (await opening(visit))["topics"] == ["news"]
    async with Visit("/events/") as visit:
        assert visit.status == 401


# -- coming back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["header", "query", "header before query"])
async def test_resumes_from_the_last_id(exchange: Exchange, how: str) -> None:
    """The cursor comes back as Last-Event-ID, or, from polyfills and pages, as a query parameter."""
    async with Visit(query("news")) as visit:
        await opening(visit)
        exchange.publish("news", "1", "2")
        last = (await visit.event()).id
    exchange.publish("news", "3")

    target = query("news")
    headers = {"Last-Event-ID": last}
    if how == "query":
        target, headers = query("news", lastEventId=last), {}
    elif how == "header before query":
        target = query("news", lastEventId="1~nonsense")
    async with Visit(target, headers=headers) as visit:
        assert (await opening(visit))["fresh"] == []
        assert [(await visit.event()).text for _ in range(2)] == ["2", "3"]
        assert "sse-reset" not in visit.names


@pytest.mark.parametrize(
    "last",
    [
        "0",
        "17",
        "end",
        "1~",
        "1~~",
        "2~abc",
        "1~AbCdEf12.1",
        "1~AbCdEf12.01.0123456789",
        "1~AbCdEf12.-1.0123456789",
        "1~AbCdEf12.99999999999999999999.0123456789",
        "1~AbCdEf12.1.0123456789~AbCdEf12.1.0123456789",
        "\xff\xfe",
        "x" * 5000,
        "'; DROP TABLE auth_user; --",
    ],
    ids=lambda last: last[:20],
)
async def test_a_malformed_id_is_a_reset(exchange: Exchange, last: str) -> None:
    """Whatever a client brings as its last id is no error: it is told that it starts anew, and it does."""
    for target, headers in (
        (query("news"), {"Last-Event-ID": last}),
        (query("news", lastEventId=last), {}),
    ):
        async with Visit(target, headers=headers) as visit:
            assert (await opening(visit))["fresh"] == ["news"]
            reset = json.loads((await visit.event("sse-reset")).text)
            assert reset == {"topics": ["news"], "reason": "cursor"}
            exchange.publish("news", "1")
            event = await visit.event()
            assert event.text == "1"
            assert Cursor.parse(event.id).get("news")


async def test_a_forged_id_is_a_reset(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor of a history that is no more is answered by one reset, whose id is good again."""
    monkeypatch.setattr(followers, "GRACE", 0.001)
    forged = Cursor.of({"news": Position(offset=7, tag=7)}).encode()
    async with Visit(query("news"), headers={"Last-Event-ID": forged}) as visit:
        reset = await visit.event("sse-reset")
        assert json.loads(reset.text) == {"topics": ["news"], "reason": "history"}
    async with Visit(query("news"), headers={"Last-Event-ID": reset.id}) as visit:
        assert (await opening(visit))["fresh"] == []
        exchange.publish("news", "1")
        await visit.event()
        assert "sse-reset" not in visit.names


# -- the first state ---------------------------------------------------------------------------------


class WithState(EventStreamView):
    """A view that gives the number of users first."""

    async def on_connect(self, request: HttpRequest, topics: Collection[str]) -> Iterable[Event]:
        """Ask the database."""
        count = await User.objects.acount()
        return [Event(name="state", text=f"{','.join(topics)}: {count}, {request.GET['mine']}")]


async def test_the_first_state(exchange: Exchange, ann: Account, place: Callable[..., None]) -> None:
    """A fresh stream has its state between `sse-open` and the events, from the ORM and the request."""
    place(WithState, topics=["news", "prices"])
    async with Visit("/?mine=yes", headers=ann.headers) as visit:
        await opening(visit)
        assert (await visit.event("state")).text == "news,prices: 1, yes"
        exchange.publish("news", "1")
        last = await visit.event()
        assert last.text == "1"
        assert visit.names == ["sse-open", "state", "message"]
        await eventually(lambda: not SyncToAsync.context_to_thread_executor)

    async with Visit("/?mine=yes", headers={"Last-Event-ID": last.id}) as visit:
        assert (await opening(visit))["fresh"] == []
        exchange.publish("news", "2")
        assert (await visit.event()).text == "2"
        assert "state" not in visit.names


async def test_the_first_state_speaks_its_requests_language(
    exchange: Exchange, settings: Settings, place: Callable[..., None]
) -> None:
    """What a middleware has set for the request, such as the language, holds for its first state too."""

    class Speaking(EventStreamView):
        async def on_connect(self, request: HttpRequest, topics: Collection[str]) -> Iterable[Event]:
            return [Event(name="state", text=str(get_language()))]

    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]
    place(Speaking, topics=["news"])
    for language in ("de", "fr"):
        async with Visit("/", headers={"Accept-Language": language}) as visit:
            assert (await visit.event("state")).text == language


async def test_a_first_state_that_fails(
    exchange: Exchange, place: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the project's is logged; the stream ends politely, and the browser comes back."""

    class Failing(EventStreamView):
        async def on_connect(self, request: HttpRequest, topics: Collection[str]) -> Iterable[Event]:
            raise ZeroDivisionError

    place(Failing, topics=["news"])
    async with Visit("/") as visit:
        await visit.rest()
        assert visit.names == ["sse-open", "sse-close"]
        assert json.loads(visit.messages[-1].text) == {"reason": "error", "reconnect": True}
    assert "ZeroDivisionError" in caplog.text


# -- methods, servers, settings ----------------------------------------------------------------------


async def test_head_is_answered_by_headers_alone(exchange: Exchange) -> None:
    """HEAD gives the headers of the stream, and ends."""
    async with Visit(query("news"), method="HEAD") as visit:
        assert visit.status == 200
        assert visit.headers["content-type"] == "text/event-stream"
        assert visit.headers["cache-control"] == "no-cache, no-transform"
        assert await visit.rest() == ""
    assert not exchange.hub.streams
    async with Visit("/events/", method="HEAD") as visit:
        assert visit.status == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_other_methods_are_not_allowed(exchange: Exchange, method: str) -> None:
    """A stream is only read."""
    async with Visit(query("news"), method=method) as visit:
        assert visit.status == 405
        assert visit.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_options(exchange: Exchange) -> None:
    """OPTIONS says what is allowed."""
    async with Visit(query("news"), method="OPTIONS") as visit:
        assert visit.status == 200
        assert visit.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["get", "head"])
def test_wsgi(method: str) -> None:
    """Under WSGI the answer is 501 and a sentence that says what to do, at once."""
    response: HttpResponse = getattr(Client(), method)("/events/?topic=news")

    assert response.status_code == 501
    if method == "get":
        assert "need ASGI" in response.content.decode()


async def test_atomic_requests(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with ATOMIC_REQUESTS, in which Django refuses async views, has its streams."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)  # noqa: FBT003  (a dict's value)
    async with Visit(query("news")) as visit:
        await opening(visit)


async def test_login_required_middleware(exchange: Exchange, settings: Settings) -> None:
    """The view answers by itself where a redirect to a login page would break EventSource."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    async with Visit("/events/") as visit:
        assert visit.status == 401
    async with Visit(query("news")) as visit:
        await opening(visit)


async def test_a_wrong_configuration_is_the_requests_own_error(
    exchange: Exchange, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A history that cannot work is a 500 with its reason in the log, not a stream that ends at once."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": "nowhere.History"}}
    async with Visit(query("news")) as visit:
        assert visit.status == 500
    assert "cannot be imported" in caplog.text


# -- the session -------------------------------------------------------------------------------------


async def test_a_stream_ends_with_its_session(
    settings: Settings, ann: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the session is over so is the stream, with the reason; coming back is then the view's to judge."""
    expires = now() + timedelta(hours=1)
    await Session.objects.aupdate(expire_date=expires)
    monkeypatch.setattr(access, "now", lambda: expires - timedelta(seconds=0.05))
    async with open_exchange(settings, HEARTBEAT=0.02):
        async with Visit("/events/", headers=ann.headers) as visit:
            await visit.rest()
            assert json.loads(visit.messages[-1].text) == {"reason": "session", "reconnect": True}
        await Session.objects.aupdate(expire_date=now())
        async with Visit("/events/", headers=ann.headers) as visit:
            assert visit.status == 401


async def test_a_stream_of_a_long_session_lives(settings: Settings, ann: Account) -> None:
    """A session that lasts for weeks does not shorten the stream."""
    async with open_exchange(settings) as exchange, Visit("/events/", headers=ann.headers) as visit:
        await opening(visit)
        (stream,) = exchange.hub.streams
        assert stream.reason == "age"  # type: ignore[attr-defined]


# -- hostile requests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "topic=%00",
        "topic=%FF%FE",
        "topic=%ED%A0%80",
        "topic=%0D%0Aevent:%20sse-close",
        "topic=" + "x" * 20_000,
        "topic=" + quote("öl" * 200),
        "topic=sse-control",
        "topic=room.5.6&topic=room.&topic=.&topic=..",
        "topic=room.%D9%A5",
        "topic[]=news&topic[0]=news",
        "topic",
        "=",
        "&&&;;;",
        "topic=user.",
        "topic=user.1&topic=USER.1",
        "lastEventId=%00%0A",
        "topic=" + "%25" * 1000,
        "topic=__class__&topic={0}&topic=%7Bself%7D",
    ],
    ids=lambda text: text[:20],
)
async def test_hostile_queries_are_refused(exchange: Exchange, text: str) -> None:
    """Whatever is asked for, it is refused as such; beside a good topic it is named in well-formed JSON."""
    async with Visit(f"/events/?{text}") as visit:
        assert visit.status == 401
    async with Visit(f"/events/?{text}&topic=news") as visit:
        said = await opening(visit)
        assert said["topics"] == ["news"]
        exchange.publish("news", "1")
        assert (await visit.event()).text == "1"
        assert "sse-close" not in visit.names


@pytest.mark.parametrize("text", ["&".join(["topic=news"] * 5000), "topic=\xff\xfe"], ids=["many", "bytes"])
async def test_queries_that_django_does_not_read(exchange: Exchange, text: str) -> None:
    """Thousands of parameters, or bytes that no browser would send, are a bad request."""
    async with Visit(f"/events/?{text}") as visit:
        assert visit.status == 400


async def test_a_topic_beyond_ascii(exchange: Exchange) -> None:
    """Topics are text in any script; the layer and the cursor can say them all."""
    async with Visit(f"/events/?topic={quote('öl')}") as visit:
        assert (await opening(visit))["topics"] == ["öl"]
        (entry,) = exchange.history.add("öl", "1")
        await exchange.announce(entry)
        assert (await visit.event()).text == "1"


async def test_rules_that_fail_refuse(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    """A rule with a bug says no, and the other topics of its stream are followed."""

    @access.allow("broken")
    def broken(request: HttpRequest) -> bool:
        raise ZeroDivisionError

    async with Visit(query("broken", "news")) as visit:
        said = await opening(visit)
    assert (said["topics"], said["refused"]) == (["news"], ["broken"])
    assert "Topic rule 'broken' failed" in caplog.text


@pytest.mark.parametrize("wrong", [["two words"], ["sse-control"], ["\ud800"], [5], [""], "news"], ids=repr)
async def test_wrong_topics_of_a_project_are_its_error(
    exchange: Exchange, place: Callable[..., None], caplog: pytest.LogCaptureFixture, wrong: Sequence[str]
) -> None:
    """A subclass that returns what is no topic fails with a reason, instead of a stream that never begins."""

    class Wrong(EventStreamView):
        async def get_topics(self, request: HttpRequest) -> Collection[str]:
            return wrong

    place(Wrong)
    async with Visit("/") as visit:
        assert visit.status == 500
    assert "TopicError" in caplog.text or "get_topics() returned 'news'" in caplog.text


async def test_a_project_may_include_several_streams(exchange: Exchange, settings: Settings) -> None:
    """The package's URLs and views of one's own stand side by side."""
    settings.ROOT_URLCONF = (
        path("events/", include("django_sse.urls")),
        re_path("^rooms/(?P<pk>[0-9]+)/$", EventStreamView.as_view(topics=["room.{pk}"])),
    )
    async with Visit(query("news")) as one, Visit("/rooms/7/") as two:
        assert (await opening(one))["topics"] == ["news"]
        assert (await opening(two))["topics"] == ["room.7"]
    await eventually(lambda: not exchange.hub.streams)
