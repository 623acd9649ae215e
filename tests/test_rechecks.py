"""Who logs out, is deactivated or deleted, or has a new password is asked again, told of or not."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import transaction
from django.test import AsyncClient
from django.utils.timezone import now
from pytest_django import DjangoAssertNumQueries, Settings

from django_sse import access, rechecks
from django_sse.rechecks import recheck
from django_sse.topics import user_topic
from django_sse.visitors import Visitor
from tests.exchange import Exchange, open_exchange
from tests.test_publishing import BrokenHistory
from tests.visits import Visit
from tests.waiting import eventually, turns

pytestmark = pytest.mark.usefixtures("database")

PASSWORD = "correct horse"


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test, which asks nobody by itself in the test's time."""
    async with open_exchange(settings, CHECK=3600, RECHECK=None) as exchange:
        yield exchange


class Account:
    """A user who has signed in, in a browser."""

    def __init__(self, user: User, browser: AsyncClient) -> None:
        self.user = user
        self.browser = browser

    @classmethod
    async def new(cls, name: str, *, signed_in: bool = True) -> "Account":
        """Make one."""
        account = cls(await User.objects.acreate_user(name, password=PASSWORD), AsyncClient())
        if signed_in:
            await account.browser.aforce_login(account.user)
        return account

    def follow(self) -> Visit:
        """Visit the user's own stream."""
        cookie = self.browser.cookies["sessionid"].value
        return Visit("/events/", headers={"Cookie": f"sessionid={cookie}"})


async def assert_revoked(visit: Visit) -> None:
    """See that a stream ends, and that its browser may ask again."""
    await visit.rest()
    assert visit.names == ["sse-open", "sse-close"]
    assert json.loads(visit.messages[-1].text) == {"reason": "revoked", "reconnect": True}


async def assert_lives(exchange: Exchange, visit: Visit, account: Account) -> None:
    """See that a stream goes on."""
    exchange.publish(user_topic(account.user), "still here")
    assert (await visit.event()).text == "still here"


# -- what Django tells -------------------------------------------------------------------------------


async def log_out(account: Account) -> None:
    """Log out."""
    await sync_to_async(account.browser.logout)()  # its async twin does not say who it was


async def deactivate(account: Account) -> None:
    """Deactivate the user."""
    account.user.is_active = False
    await account.user.asave()


async def delete(account: Account) -> None:
    """Delete the user."""
    await account.user.adelete()


async def change_password(account: Account) -> None:
    """Change the user's password."""
    account.user.set_password("another")
    await account.user.asave(update_fields=["password"])


@pytest.mark.parametrize("act", [log_out, deactivate, delete, change_password])
async def test_what_django_tells_ends_streams_at_once(
    exchange: Exchange, act: Callable[[Account], Any]
) -> None:
    """The user's streams end; another user's go on; and whoever comes back is asked to sign in."""
    ann, ben = await Account.new("ann"), await Account.new("ben")
    cookie = ann.browser.cookies["sessionid"].value
    async with ann.follow() as hers, ben.follow() as his:
        await hers.event("sse-open")
        await his.event("sse-open")
        await act(ann)
        await assert_revoked(hers)
        await assert_lives(exchange, his, ben)
    async with Visit("/events/", headers={"Cookie": f"sessionid={cookie}"}) as again:
        assert again.status == 401


async def test_other_saves_end_nothing(exchange: Exchange) -> None:
    """A new name or the time of a login is no reason, nor is a password's new hash of the same password."""
    ann = await Account.new("ann")
    async with ann.follow() as visit:
        await visit.event("sse-open")
        ann.user.first_name = "Ann"
        ann.user.last_login = now()
        await ann.user.asave()
        await Account.new("ben")
        await assert_lives(exchange, visit, ann)


async def test_a_rolled_back_change_ends_nothing(exchange: Exchange) -> None:
    """It is told after the commit, if there is one."""
    ann = await Account.new("ann")

    def change(*, fails: bool) -> None:
        with transaction.atomic():
            ann.user.is_active = False
            ann.user.save()
            assert not exchange.history._logs
            transaction.set_rollback(fails)

    async with ann.follow() as visit:
        await visit.event("sse-open")
        await sync_to_async(change)(fails=True)
        await turns()
        assert not exchange.history._logs
        await sync_to_async(change)(fails=False)
        await assert_revoked(visit)


async def test_nobody_logs_out(exchange: Exchange) -> None:
    """A visitor who logs out without having signed in is nobody to revoke."""
    rechecks._on_logout(request=None, user=None)
    rechecks._on_save(instance=User(pk=1, is_active=False), using="default", raw=True)
    rechecks._on_save(instance=User(pk=1, is_active=False), using="default", created=True)
    assert not exchange.history._logs


async def test_a_history_that_is_down_keeps_nobody_from_logging_out(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the next recheck ends what was not told."""
    ann = await Account.new("ann")
    monkeypatch.setattr(BrokenHistory, "broken", {"sse-control"})
    monkeypatch.setattr(exchange.history, "append", BrokenHistory().append)
    async with ann.follow() as visit:
        await visit.event("sse-open")
        await log_out(ann)
        assert "An event was not sent" in caplog.text
        await recheck(exchange.hub)
        await assert_revoked(visit)


async def test_whatever_fails_is_the_log_s(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A user whose topic cannot be named, say, can still be saved."""
    rechecks._on_delete(instance=User(), using="default")
    assert "A revocation was not sent" in caplog.text


# -- what nobody tells -------------------------------------------------------------------------------


async def end_session(account: Account) -> None:
    """End the session elsewhere."""
    await Session.objects.filter(session_key=account.browser.cookies["sessionid"].value).adelete()


async def expire_session(account: Account) -> None:
    """Let the session's time be over."""
    key = account.browser.cookies["sessionid"].value
    await Session.objects.filter(session_key=key).aupdate(expire_date=now())


async def update_activity(account: Account) -> None:
    """Deactivate the user past the model's signals."""
    await User.objects.filter(pk=account.user.pk).aupdate(is_active=False)


async def update_password(account: Account) -> None:
    """Change the password past the model's signals."""
    await User.objects.filter(pk=account.user.pk).aupdate(password="!")


async def remove(account: Account) -> None:
    """Delete the user past the model's signals."""
    await sync_to_async(User.objects.filter(pk=account.user.pk)._raw_delete)("default")


@pytest.mark.parametrize("act", [end_session, expire_session, update_activity, update_password, remove])
async def test_a_recheck_finds_what_nobody_told(exchange: Exchange, act: Callable[[Account], Any]) -> None:
    """Whose session, password or account is not what it was loses the stream; nobody else does."""
    ann, ben = await Account.new("ann"), await Account.new("ben")
    async with ann.follow() as hers, ben.follow() as his:
        await hers.event("sse-open")
        await his.event("sse-open")
        await act(ann)
        await recheck(exchange.hub)
        await assert_revoked(hers)
        await assert_lives(exchange, his, ben)


async def test_a_recheck_comes_by_itself(settings: Settings) -> None:
    """Every RECHECK seconds."""
    ann = await Account.new("ann")
    async with open_exchange(settings, RECHECK=0.02), ann.follow() as visit:
        await visit.event("sse-open")
        await update_activity(ann)
        await assert_revoked(visit)


async def test_a_recheck_outlives_a_fault(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A database that is down ends no stream; it is asked again."""
    ann = await Account.new("ann")
    real = rechecks._users

    def fail(_: object) -> Any:
        raise ZeroDivisionError

    async with open_exchange(settings, RECHECK=0.02), ann.follow() as visit:
        await visit.event("sse-open")
        await update_activity(ann)
        monkeypatch.setattr(rechecks, "_users", fail)
        await eventually(lambda: "Nobody could be asked" in caplog.text)
        assert not visit.ended
        monkeypatch.setattr(rechecks, "_users", real)
        await assert_revoked(visit)


async def test_many_are_asked_about_in_few_queries(
    exchange: Exchange, django_assert_num_queries: DjangoAssertNumQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query for the users and one for the sessions, of a slice each; they only read."""
    monkeypatch.setattr(rechecks, "_SLICE", 2)
    accounts = [await Account.new(f"user-{number}") for number in range(3)]
    visits = [await account.follow().__aenter__() for account in accounts for _ in range(2)]
    for visit in visits:
        await visit.event("sse-open")
    visitors = [stream.visitor for stream in exchange.hub.streams if stream.visitor is not None]
    assert len(visitors) == 6

    def ask() -> list[str]:
        with django_assert_num_queries(4) as context:
            assert rechecks._lost(visitors) == set()
        return [query["sql"] for query in context.captured_queries]

    assert {sql.split()[0] for sql in await sync_to_async(ask)()} == {"SELECT"}
    for visit in visits:
        await visit.leave()
    await eventually(lambda: not exchange.hub.streams)
    monkeypatch.setattr(rechecks, "_lost", None)
    await recheck(exchange.hub)  # nobody is asked about nobody


async def test_an_inactive_user_whom_the_backend_admits(exchange: Exchange, settings: Settings) -> None:
    """The project's backend decides who may sign in; one that is gone admits nobody."""
    backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    settings.AUTHENTICATION_BACKENDS = [backend]
    ann = await Account.new("ann", signed_in=False)
    await update_activity(ann)
    await ann.browser.aforce_login(ann.user, backend)
    async with ann.follow() as visit:
        await visit.event("sse-open")
        await recheck(exchange.hub)
        await assert_lives(exchange, visit, ann)
    assert not rechecks._may_sign_in(ann.user, "no.such.Backend")


async def test_who_has_signed_in_by_other_ways(exchange: Exchange) -> None:
    """Without a session it is the user that counts, and whether it is active."""
    ann = await Account.new("ann", signed_in=False)
    user = ann.user

    class Request:
        """A request that some middleware has signed in."""

        async def auser(self) -> User:
            """Return the user."""
            return user

    visitor = await access.visitor_of(Request())  # type: ignore[arg-type]
    assert visitor is not None
    assert visitor.session_key is None
    assert await sync_to_async(rechecks._lost)([visitor]) == set()
    await update_activity(ann)
    assert await sync_to_async(rechecks._lost)([visitor]) == {visitor}


@pytest.mark.parametrize("engine", ["cache", "cached_db", "file", "signed_cookies"])
async def test_every_store_of_sessions(
    exchange: Exchange, settings: Settings, engine: str, tmp_path: Any
) -> None:
    """A session that its store has lost is found; one that only its cookie holds is nobody's to end."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    ann = await Account.new("ann")
    store = import_module(settings.SESSION_ENGINE).SessionStore
    settings.MIDDLEWARE = list(settings.MIDDLEWARE)
    async with ann.follow() as visit:
        await visit.event("sse-open")
        await recheck(exchange.hub)
        await assert_lives(exchange, visit, ann)
        key = ann.browser.cookies["sessionid"].value
        await sync_to_async(store(key).delete)(key)
        await sync_to_async(cache.clear)()
        await recheck(exchange.hub)
        if engine == "signed_cookies":
            await assert_lives(exchange, visit, ann)
        else:
            await visit.rest()
            assert visit.names[-1] == "sse-close"


async def test_projects_without_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody signs in nobody is asked about."""
    from django.apps import apps  # noqa: PLC0415  (only here)

    begun: dict[Any, None] = {}
    monkeypatch.setattr("django_sse.hub.at_start", begun)
    monkeypatch.setattr(apps, "is_installed", lambda _: False)
    rechecks.prepare()
    assert begun == {}


def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Who has a stream is written without what would let somebody else have it."""
    visitor = Visitor(user="user.1", began=0, session_key="key", auth_hash="hash")
    logging.getLogger("django_sse").warning("%r", visitor)
    assert "key'" not in caplog.text
    assert "hash'" not in caplog.text
