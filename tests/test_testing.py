"""A project's tests see what was sent and what waits for the commit, in every kind of test."""

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase

from django_sse import asend_event, send_event, user_topic
from django_sse.testing import CapturedEvent, capture_events


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
