"""A signed address is its user's, for its topics and its time, and for no longer than the user's access."""

import json
from collections.abc import AsyncIterator, Callable
from time import time
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core import signing
from django.http import HttpRequest
from pytest_django import Settings

from django_sse import access, arevoke, signed_urls
from django_sse.exceptions import HistoryError, TopicError
from django_sse.rechecks import recheck
from django_sse.signed_urls import asigned_stream_url, signed_stream_url
from django_sse.topics import CONTROL_TOPIC
from django_sse.wire import Event
from tests.exchange import Exchange, open_exchange
from tests.visits import Visit

pytestmark = pytest.mark.usefixtures("handler")


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let users follow the topic that has their name."""
    monkeypatch.setattr(access, "_rules", [])

    @access.allow("of.<slug:name>")
    async def owner(request: HttpRequest, name: str) -> bool:
        user = await request.auser()
        assert user == request.user
        return user.username == name


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test, which asks nobody by itself in the test's time."""
    async with open_exchange(settings, CHECK=3600, RECHECK=None) as exchange:
        yield exchange


@pytest.fixture
async def ann(database: None) -> User:
    """Return a user, who has not signed in."""
    return await User.objects.acreate_user("ann", password="correct horse")


async def opened(visit: Visit) -> dict[str, Any]:
    """Return what a stream's opening tells."""
    told: dict[str, Any] = json.loads((await visit.event("sse-open")).text)
    return told


async def refused(url: str) -> bool:
    """Tell whether an address is answered by 401, and a sentence that does not say why."""
    async with Visit(url) as visit:
        return visit.status == 401 and "ask for a new one" in await visit.rest()


async def test_it_is_the_user_s(exchange: Exchange, ann: User) -> None:
    """Without any cookie it follows the user's own topic, and those that the rules allow the user."""
    for url in (
        await asigned_stream_url(ann, "of.ann", "of.ben"),
        await sync_to_async(signed_stream_url)(ann, "of.ann", "of.ben"),
    ):
        assert url.startswith("/events/?token=")
        async with Visit(url) as visit:
            told = await opened(visit)
            assert told["topics"] == [f"user.{ann.pk}", "of.ann"]
            assert told["refused"] == ["of.ben"]
            exchange.publish("of.ann", "hello")
            assert (await visit.event()).text == "hello"


async def test_it_gives_no_other_topics(exchange: Exchange, ann: User) -> None:
    """What is asked for beside it is not looked at."""
    async with Visit(f"{await asigned_stream_url(ann)}&topic=of.ann") as visit:
        assert (await opened(visit))["topics"] == [f"user.{ann.pk}"]


async def test_it_resumes(exchange: Exchange, ann: User) -> None:
    """The same address serves until its time is over, from where the client stands."""
    url = await asigned_stream_url(ann)
    async with Visit(url) as visit:
        await opened(visit)
        exchange.publish(f"user.{ann.pk}", "1")
        last = (await visit.event()).id
    exchange.publish(f"user.{ann.pk}", "2")
    async with Visit(f"{url}&lastEventId={last}") as visit:
        assert (await visit.event()).text == "2"


async def test_its_time_ends_the_stream(
    settings: Settings, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream ends with it, and it is good for nothing any more."""
    async with open_exchange(settings, HEARTBEAT=0.02):
        clock = Mock(return_value=1e9)
        monkeypatch.setattr(signed_urls, "time", clock)
        url = await asigned_stream_url(ann, expires=60)
        clock.return_value += 59.95
        async with Visit(url) as visit:
            clock.return_value += 1
            await visit.rest()
            assert json.loads(visit.messages[-1].text) == {"reason": "session", "reconnect": True}
        assert await refused(url)


async def deactivate(user: User) -> None:
    """Deactivate the user, past the model's signals."""
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)


async def change_password(user: User) -> None:
    """Change the password, past the model's signals."""
    await User.objects.filter(pk=user.pk).aupdate(password="!")


async def remove(user: User) -> None:
    """Delete the user, past the model's signals."""
    await sync_to_async(User.objects.filter(pk=user.pk)._raw_delete)("default")


@pytest.mark.parametrize("act", [arevoke, deactivate, change_password, remove])
async def test_it_ends_with_the_access(exchange: Exchange, ann: User, act: Callable[[User], Any]) -> None:
    """Streams that are open end, and the address opens no more; a new one is another matter."""
    url = await asigned_stream_url(ann)
    async with Visit(url) as visit:
        await opened(visit)
        await act(ann)
        await recheck(exchange.hub)
        await visit.rest()
        assert json.loads(visit.messages[-1].text)["reason"] == "revoked"
    assert await refused(url)
    if act is arevoke:
        async with Visit(await asigned_stream_url(ann)) as visit:
            await opened(visit)


async def test_other_users_revocations_do_not_end_it(
    exchange: Exchange, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read past, however many they are; so is what nobody understands."""
    monkeypatch.setattr(signed_urls, "_LIMIT", 2)
    url = await asigned_stream_url(ann)
    for number in range(5):
        await arevoke(User(pk=ann.pk * 10 + number))
    exchange.history.append(CONTROL_TOPIC, Event(name="later", text="{}"))
    async with Visit(url) as visit:
        await opened(visit)
    await arevoke(ann)
    assert await refused(url)


async def test_where_nobody_knows_it_is_refused(exchange: Exchange, ann: User) -> None:
    """A history that has lost the revocations since then cannot say that there was none."""
    url = await asigned_stream_url(ann)
    await arevoke(User(pk=ann.pk + 1))
    exchange.history.forget(CONTROL_TOPIC)
    assert await refused(url)


async def test_a_history_that_is_down(exchange: Exchange, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is let in, and nobody is stopped for good: the client is told to come back."""
    url = await asigned_stream_url(ann)
    exchange.history.fault = HistoryError("down")
    async with Visit(url) as visit:
        assert visit.status == 200
        await visit.rest()
        assert visit.names == ["sse-close"]
        assert json.loads(visit.messages[0].text) == {"reason": "error", "reconnect": True}
        assert visit.parser.retry == 3


async def test_forgeries(exchange: Exchange, ann: User, settings: Settings) -> None:
    """What was not signed here, for this, and in this form is not good."""
    url = await asigned_stream_url(ann)
    token = url.partition("token=")[2]
    payload = {"user": str(ann.pk), "hash": "", "topics": [], "until": time() + 99, "control": [0, 1]}

    def sign(salt: str = signed_urls._SALT, **changes: Any) -> str:
        return signing.dumps(payload | changes, salt=salt)

    forged = [
        "",
        "x",
        "%00",
        "%FF",
        token[:-1],
        f"{token}A",
        token.swapcase(),
        sign(salt="another"),
        sign(),
        sign(user="0"),
        sign(topics=["two words"]),
        sign(topics=5),
        sign(until="soon"),
        sign(until=0),
        sign(control=[1]),
        sign(control=["1", "2"]),
        sign(control=None),
        signing.dumps([], salt=signed_urls._SALT),
    ]
    for one in forged:
        assert await refused(f"/events/?token={one}"), one
    settings.SECRET_KEY = "another"
    assert await refused(url)
    assert not exchange.hub.streams


async def test_too_many_topics(exchange: Exchange, ann: User) -> None:
    """A signed address is limited like any other."""
    async with Visit(await asigned_stream_url(ann, *(f"of.a{n}" for n in range(33)))) as visit:
        assert visit.status == 400


async def test_for_whom_none_is_made(exchange: Exchange, ann: User) -> None:
    """An anonymous visitor has no topic of their own, and a wrong topic is an error at once."""
    with pytest.raises(TopicError):
        await asigned_stream_url(AnonymousUser())
    with pytest.raises(TopicError):
        await asigned_stream_url(ann, "two words")


async def test_it_tells_nothing_secret(exchange: Exchange, ann: User) -> None:
    """What it carries can be read by anybody, so it is nothing of the password."""
    token = unquote((await asigned_stream_url(ann)).partition("token=")[2])
    told = signing.loads(token, salt=signed_urls._SALT)
    assert set(told) == {"user", "hash", "topics", "until", "control"}
    assert told["hash"] not in ann.password
    assert told["hash"] not in ann.get_session_auth_hash()
