"""A request's thread is released by a way that asgiref does not document, and only as far as it is known."""

import logging
from contextvars import ContextVar
from typing import ClassVar
from weakref import WeakKeyDictionary

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import TestCase

from django_sse import asend_event, threads, user_topic
from django_sse.hub import Hub
from django_sse.testing import read_stream
from django_sse.threads import release_request
from tests.waiting import eventually


def test_asgirefs_table_of_threads() -> None:
    """What the release relies on, though asgiref does not document it, is still there."""
    assert isinstance(SyncToAsync.context_to_thread_executor, WeakKeyDictionary)
    assert isinstance(SyncToAsync.thread_sensitive_context, ContextVar)


async def test_requests_under_way_are_seen() -> None:
    """A request has a thread from its first synchronous function to its end."""
    assert not threads.are_in_use()
    async with ThreadSensitiveContext():
        await sync_to_async(int)()
        assert threads.are_in_use()
    assert not threads.are_in_use()


async def test_another_asgiref_costs_memory_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where asgiref has changed, the release says so, and does nothing."""
    monkeypatch.setattr(threads, "SyncToAsync", object)
    with caplog.at_level(logging.WARNING, "django_sse.threads"):
        await release_request()
    assert not threads.are_in_use()

    assert "could not be released" in caplog.text


@pytest.mark.django_db
def test_a_transactions_connection_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection in a transaction is somebody's, such as a TestCase's: it is not closed."""
    User.objects.create_user("ann")
    assert connection.in_atomic_block

    with monkeypatch.context() as patch:
        patch.setattr(DatabaseWrapper, "is_in_memory_db", lambda _: False)
        threads.close_connections()
    assert User.objects.count() == 1


class ATestCase(TestCase):
    """Projects test their streams in Django's own TestCase, whose data are in a transaction."""

    user: ClassVar[User]

    @classmethod
    def setUpTestData(cls) -> None:
        """Make a user."""
        cls.user = User.objects.create_user("ann")

    async def test_a_stream_in_a_testcase(self) -> None:
        """A stream sees the test's data, is read with AsyncClient, and leaves the data and the connection."""
        await self.async_client.aforce_login(self.user)
        response = await self.async_client.get("/events/")
        async with read_stream(response) as stream:
            assert (await stream.until_open())["topics"] == [user_topic(self.user)]
            await asend_event(self.user, "message", text="hello")
            assert (await stream.next()).text == "hello"
        hub = Hub.current()
        await eventually(lambda: not hub.streams)

        assert await User.objects.acount() == 1
        await hub.close()
