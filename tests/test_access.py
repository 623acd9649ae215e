"""Who may follow what: denied, unless a rule allows it."""

import asyncio
import datetime as dt
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends import cached_db, db, signed_cookies
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest
from django.test import RequestFactory
from django.urls import converters
from django.utils.timezone import now

from django_sse import access
from django_sse.access import allow, may_follow, own_topic, session_seconds, sort_topics
from tests.app.models import Room

ANN = User(pk=5, username="ann")


def request_of(user: User | AnonymousUser | None = ANN) -> HttpRequest:
    """Return a request of a user; of none at all where the project has no authentication."""
    request = RequestFactory().get("/")
    if user is not None:

        async def auser() -> User | AnonymousUser:
            return user

        request.user = user
        request.auser = auser
    return request


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> list[access.Rule]:
    """Begin without rules."""
    rules: list[access.Rule] = []
    monkeypatch.setattr(access, "_rules", rules)
    return rules


def yes(request: HttpRequest, **captured: object) -> bool:
    """Allow."""
    return True


def no(request: HttpRequest, **captured: object) -> bool:
    """Refuse."""
    return False


# -- patterns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "topic", "captured"),
    [
        ("news", "news", {}),
        ("room.<int:pk>", "room.5", {"pk": 5}),
        ("room.<int:pk>.staff", "room.5.staff", {"pk": 5}),
        ("<slug:shop>.orders", "my-shop.orders", {"shop": "my-shop"}),
        ("tag.<name>", "tag.grüße", {"name": "grüße"}),
        ("grid.<int:x>-<int:y>", "grid.3-4", {"x": 3, "y": 4}),
        ("<str:a>.<int:b>", "x.7", {"a": "x", "b": 7}),
        (
            "job.<uuid:pk>",
            "job.00000000-0000-0000-0000-000000000005",
            {"pk": UUID(int=5)},
        ),
        ("file.<path:name>", "file.a/b", {"name": "a/b"}),
        ("c++.(a|b)*", "c++.(a|b)*", {}),
        ("c++<int:version>|x", "c++20|x", {"version": 20}),
    ],
)
async def test_a_pattern_captures(
    rules: list[access.Rule], pattern: str, topic: str, captured: dict[str, object]
) -> None:
    """The rule is called with the request, and what Django's converters make of the topic's parts."""
    called: list[tuple[HttpRequest, dict[str, object]]] = []

    @allow(pattern)
    def rule(request: HttpRequest, **captured: object) -> bool:
        called.append((request, captured))
        return True

    request = request_of()
    assert await may_follow(request, topic) is True
    assert called == [(request, captured)]


async def test_a_public_topic_is_everybodys(rules: list[access.Rule]) -> None:
    """It needs no function, and matches like any other rule."""
    allow("room.<int:pk>.lobby", public=True)

    for user in (ANN, AnonymousUser(), None):
        assert await may_follow(request_of(user), "room.5.lobby") is True
        assert await may_follow(request_of(user), "room.5") is False


def test_a_public_topic_has_no_use_for_a_function(rules: list[access.Rule]) -> None:
    """Which of the two was meant is for the project to say; until then the function would decide nothing."""
    with pytest.raises(ImproperlyConfigured, match="is public: leave out public=True, or the function"):
        allow("news", public=True)(no)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("news", "news2"),
        ("news", "News"),
        ("news", "the-news"),
        ("news", "news.today"),
        ("room.<int:pk>", "room.x"),
        ("room.<int:pk>", "room.-5"),
        ("room.<int:pk>", "room.٣"),
        ("room.<int:pk>", "room."),
        ("room.<int:pk>", "room"),
        ("room.<int:pk>", "room.5.staff"),
        ("room.<int:pk>", "lobby.room.5"),
        ("room.<name>", "room.a.b"),
        ("room.<name>", "room.a/b"),
        ("file.<path:name>", "file.a.b"),
        ("<slug:shop>.orders", "my.shop.orders"),
        ("a*", "aaa"),
        ("a*<int:pk>b*", "aa5bb"),
        ("a.c", "abc"),
        ("job.<uuid:pk>", "job.5"),
    ],
)
async def test_a_pattern_refuses(rules: list[access.Rule], pattern: str, topic: str) -> None:
    """What does not match as a whole is refused; captures stop at dots, whatever the converter."""
    allow(pattern)(yes)

    assert await may_follow(request_of(), topic) is False


class Even:
    """A project's converter."""

    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        """Refuse odd numbers."""
        if int(value) % 2:
            raise ValueError
        return int(value)

    def to_url(self, value: int) -> str:
        """Write a number."""
        return str(value)


async def test_a_project_may_bring_converters(
    rules: list[access.Rule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered with Django they work here too; what they refuse does not match."""
    monkeypatch.setattr(access, "get_converters", lambda: {**converters.get_converters(), "even": Even()})
    allow("room.<even:pk>")(yes)

    assert await may_follow(request_of(), "room.4") is True
    assert await may_follow(request_of(), "room.5") is False


@pytest.mark.parametrize(
    ("pattern", "telling"),
    [
        ("", "is malformed at ''"),
        ("room.", "is malformed at ''"),
        (".room", "is malformed at ''"),
        ("room..5", "is malformed at ''"),
        ("room.<int:pk", "is malformed at '<int:pk': write it like 'room.<int:pk>'"),
        ("room.int:pk>", "is malformed at 'int:pk>'"),
        ("room.<>", "is malformed at '<>'"),
        ("room.<number:pk>", "'<number:pk>' is no capture; the converters are int, path, slug, str, uuid"),
        ("room.<int:>", "'<int:>' is no capture"),
        ("room.<int:1st>", "'<int:1st>' is no capture"),
        ("room.<a b>", "'<a b>' is no capture"),
        ("<int:pk>-<int:pk>", "captures a name twice: give each capture a name of its own"),
        ("<int:pk>.<str:pk>", "captures a name twice: give each capture a name of its own"),
    ],
)
def test_malformed_patterns_are_refused(rules: list[access.Rule], pattern: str, telling: str) -> None:
    """At start-up, with the pattern, and how to write it."""
    with pytest.raises(ImproperlyConfigured) as caught:
        allow(pattern)

    assert str(caught.value).startswith(f"topic rule {pattern!r}")
    assert telling in str(caught.value)
    assert rules == []


def test_a_rule_stays_a_function(rules: list[access.Rule]) -> None:
    """Projects can call and test what they decorated; one function may serve several patterns."""
    assert allow("news")(allow("room.<int:pk>")(yes)) is yes
    assert [rule.pattern for rule in rules] == ["room.<int:pk>", "news"]


# -- answers -------------------------------------------------------------------------------------------


async def a_yes(request: HttpRequest, **captured: object) -> bool:
    """Allow, in the event loop."""
    await asyncio.sleep(0)
    return True


async def a_no(request: HttpRequest, **captured: object) -> bool:
    """Refuse, in the event loop."""
    return False


class Callables:
    """Rules may be methods, too."""

    def rule(self, request: HttpRequest, **captured: object) -> bool:
        """Allow."""
        return True

    async def arule(self, request: HttpRequest, **captured: object) -> bool:
        """Allow."""
        return True


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (yes, True),
        (no, False),
        (a_yes, True),
        (a_no, False),
        (Callables().rule, True),
        (Callables().arule, True),
        (lambda request: None, False),
        (wraps(yes)(lambda request: a_yes(request, wrapped=True)), True),
        (wraps(no)(lambda request: a_no(request, wrapped=True)), False),
    ],
)
async def test_a_rule_decides(
    rules: list[access.Rule], caplog: pytest.LogCaptureFixture, function: Callable[..., Any], *, answer: bool
) -> None:
    """Plain or coroutine, its True allows; False and None refuse."""
    allow("news")(function)

    assert await may_follow(request_of(), "news") is answer
    assert caplog.records == []


@pytest.mark.parametrize("error", [Http404, PermissionDenied, Room.DoesNotExist, User.DoesNotExist])
@pytest.mark.parametrize("coroutine", [True, False])
async def test_what_views_raise_means_no(
    rules: list[access.Rule], caplog: pytest.LogCaptureFixture, error: type[Exception], *, coroutine: bool
) -> None:
    """get_object_or_404 and its like may be used in rules, and are nothing to log."""

    def rule(request: HttpRequest) -> bool:
        raise error

    async def arule(request: HttpRequest) -> bool:
        raise error

    allow("news")(arule if coroutine else rule)

    assert await may_follow(request_of(), "news") is False
    assert caplog.records == []


async def test_a_rule_that_fails_says_no(rules: list[access.Rule], caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its pattern, opens nothing, and leaves the other topics alone."""

    @allow("news")
    def rule(request: HttpRequest) -> bool:
        raise ZeroDivisionError("the project's own fault")

    allow("orders")(yes)

    assert await sort_topics(request_of(), ["news", "orders"]) == (["orders"], ["news"])
    [record] = caplog.records
    assert record.getMessage() == "Topic rule 'news' failed; the topic is refused"
    assert "the project's own fault" in caplog.text


@pytest.mark.parametrize("answer", [1, "yes", ANN, [ANN], object()])
async def test_only_true_is_yes(
    rules: list[access.Rule], caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """Something that merely counts as true, such as a queryset or a forgotten call, opens nothing."""
    allow("news")(lambda request: answer)

    assert await may_follow(request_of(), "news") is False
    [record] = caplog.records
    assert record.getMessage() == f"Topic rule 'news' returned {type(answer).__name__}, not a bool; refused"


async def test_a_rule_with_other_arguments_says_no(
    rules: list[access.Rule], caplog: pytest.LogCaptureFixture
) -> None:
    """A rule that does not take its captures fails like any other."""

    @allow("room.<int:pk>")
    def rule(request: HttpRequest) -> bool:
        return True

    assert await may_follow(request_of(), "room.5") is False
    assert "unexpected keyword argument 'pk'" in caplog.text


async def test_one_yes_is_enough(rules: list[access.Rule]) -> None:
    """Where several rules match, they are asked in order, until one allows."""
    asked: list[str] = []

    def rule(name: str, *, answer: bool) -> Callable[..., bool]:
        def function(request: HttpRequest, **captured: object) -> bool:
            asked.append(name)
            return answer

        return function

    allow("room.<int:pk>")(rule("first", answer=False))
    allow("room.<name>")(rule("second", answer=True))
    allow("room.5")(rule("third", answer=True))

    assert await may_follow(request_of(), "room.5") is True
    assert asked == ["first", "second"]


async def test_a_plain_rule_runs_where_the_database_may_be_used(rules: list[access.Rule]) -> None:
    """Not in the event loop, which Django would refuse."""
    loops: list[bool] = []

    @allow("news")
    def rule(request: HttpRequest) -> bool:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            loops.append(False)
        return True

    assert await may_follow(request_of(), "news") is True
    assert loops == [False]


# -- what needs no rule, and what no rule can give -----------------------------------------------------


async def test_nothing_is_allowed_without_a_rule(rules: list[access.Rule]) -> None:
    """Deny by default, staff and superusers too."""
    for user in (ANN, AnonymousUser(), User(pk=6, is_superuser=True, is_staff=True), None):
        assert await may_follow(request_of(user), "orders") is False


async def test_a_users_own_topic_is_allowed(rules: list[access.Rule]) -> None:
    """To its user, and to nobody else."""
    assert await may_follow(request_of(ANN), "user.5") is True
    assert await may_follow(request_of(User(pk=6)), "user.5") is False
    assert await may_follow(request_of(User(pk=55)), "user.5") is False
    assert await may_follow(request_of(AnonymousUser()), "user.None") is False
    assert await may_follow(request_of(None), "user.5") is False


async def test_anonymous_visitors_are_asked_about(rules: list[access.Rule]) -> None:
    """What a rule allows to everybody, everybody may follow."""
    allow("news")(yes)

    assert await may_follow(request_of(AnonymousUser()), "news") is True
    assert await may_follow(request_of(None), "news") is True


@pytest.mark.parametrize("topic", ["", "two words", "a\nb", "x" * 201, "sse-control", "a\ud800"])
async def test_no_rule_opens_an_invalid_topic(rules: list[access.Rule], topic: str) -> None:
    """What nothing can be sent to is refused before any rule is asked."""
    asked: list[str] = []

    @allow("<path:anything>")
    def rule(request: HttpRequest, anything: str) -> bool:
        asked.append(anything)
        return True

    assert await may_follow(request_of(), "orders") is True
    assert await may_follow(request_of(), topic) is False
    assert asked == ["orders"]


async def test_topics_are_sorted(rules: list[access.Rule]) -> None:
    """Into allowed and refused, each once, in the order asked."""
    allow("news")(yes)
    allow("room.<int:pk>")(lambda request, pk: pk == 5)
    asked = ["room.6", "room.5", "news", "two words", "room.5", "user.5", "room.6"]

    assert await sort_topics(request_of(), asked) == (
        ["room.5", "news", "user.5"],
        ["room.6", "two words"],
    )


@pytest.mark.parametrize(("user", "topic"), [(ANN, "user.5"), (AnonymousUser(), None), (None, None)])
async def test_who_is_signed_in_has_a_topic(user: User | AnonymousUser | None, topic: str | None) -> None:
    """Anonymous visitors, and projects without authentication, have none."""
    assert await own_topic(request_of(user)) == topic


# -- with the database ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_rules_of_an_app_ask_the_database() -> None:
    """As documented: members follow their room, staff the staff's topic, and everybody the news."""
    ann = User.objects.create(username="ann", is_staff=True)
    ben = User.objects.create(username="ben")
    room = Room.objects.create(name="Lobby")
    room.members.add(ben)
    asked = ["news", "staff", f"room.{room.pk}", "room.999", "articles"]

    allowed = {
        str(user): async_to_sync(sort_topics)(request_of(user), asked)[0]
        for user in (ann, ben, AnonymousUser())
    }

    assert allowed == {
        "ann": ["news", "staff"],
        "ben": ["news", f"room.{room.pk}"],
        "AnonymousUser": ["news"],
    }


@pytest.mark.django_db
@pytest.mark.parametrize("backend", [db, cached_db])
def test_a_session_in_the_database_tells_its_end(backend: Any) -> None:
    """The row's own time counts, not what the session would get if it were saved now."""
    session = backend.SessionStore()
    session["cart"] = [1]
    session.save()
    Session.objects.update(expire_date=now() + dt.timedelta(seconds=100))
    request = request_of()
    request.session = backend.SessionStore(session.session_key)

    seconds = async_to_sync(session_seconds)(request)

    assert seconds is not None
    assert 90 < seconds <= 100
    Session.objects.update(expire_date=now() - dt.timedelta(seconds=100))
    assert async_to_sync(session_seconds)(request) == 0
    Session.objects.all().delete()
    assert async_to_sync(session_seconds)(request) is None


async def test_other_sessions_do_not_tell() -> None:
    """Cookies, sessions that were never saved, and requests without any: no end is known."""
    request = request_of()
    assert await session_seconds(request) is None

    request.session = signed_cookies.SessionStore()
    assert await session_seconds(request) is None

    request.session = db.SessionStore()
    assert await session_seconds(request) is None
