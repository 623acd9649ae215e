"""Sending events: to whom, what, and when."""

import asyncio
import datetime as dt
import json
import logging
import math
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.utils.connection import ConnectionDoesNotExist
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from django_sse import hearing, layers
from django_sse.exceptions import EventError, HistoryError, PublishError, TopicError
from django_sse.hearing import note_request
from django_sse.history import MemoryHistory, get_history
from django_sse.positions import Cursor, Entry
from django_sse.publishing import (
    aget_cursor,
    asend_event,
    get_cursor,
    make_event,
    send_event,
    topics_of,
)
from django_sse.revocations import Revocation
from django_sse.revoking import arevoke, revoke
from django_sse.signals import event_sent
from django_sse.topics import CONTROL_TOPIC
from django_sse.wire import Event, Parser, encode
from tests.test_layers import Ear
from tests.test_wire import LINE_ENDS

Publish = Callable[..., Awaitable[None]]

#: Text of every kind: what ends lines somewhere, what JSON escapes, what is not ASCII.
STRINGS = st.lists(
    st.one_of(st.sampled_from([*LINE_ENDS, "\0", '"', "\\", "</script>", "\ufeff"]), st.text(max_size=5)),
    max_size=5,
).map("".join)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), STRINGS
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(STRINGS, inner, max_size=4)),
    max_leaves=10,
)


@pytest.fixture(autouse=True)
def process(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with an empty history, nobody who hears, and nothing said yet."""
    settings.DJANGO_SSE = {}
    monkeypatch.setattr(layers, "_process", layers._Process())
    monkeypatch.setattr(hearing, "_hearing", hearing._Hearing())


@pytest.fixture(params=["send_event", "asend_event"])
def publish(request: pytest.FixtureRequest) -> Publish:
    """Return both ways to send: the plain one runs in a thread, where no loop is."""

    async def plainly(*args: Any, **kwargs: Any) -> None:
        await asyncio.to_thread(send_event, *args, **kwargs, on_commit=False)

    return plainly if request.param == "send_event" else asend_event


def sent(topic: str = "orders") -> list[Event]:
    """Return the events that stand in the history of a topic."""
    history = get_history()
    assert isinstance(history, MemoryHistory)
    log = history._logs.get(topic)
    return [] if log is None else [entry.event for entry in log.entries.values()]


def texts(topic: str = "orders") -> list[str]:
    """Return the texts of these events."""
    return [event.text for event in sent(topic)]


class BrokenHistory(MemoryHistory):
    """A history that cannot be reached, for some topics or all."""

    broken = frozenset({"orders"})

    def append(self, topic: str, *args: Any, **kwargs: Any) -> Entry | None:
        """Append, or fail."""
        if topic in self.broken:
            raise HistoryError("no answer")
        return super().append(topic, *args, **kwargs)


@pytest.fixture
def broken(settings: Settings) -> None:
    """Break the history of the orders."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{__name__}.BrokenHistory"}}


class SharedLayer(BaseChannelLayer):
    """Stands for a layer that several processes share."""


# -- to whom -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "topics"),
    [
        ("orders", ["orders"]),
        (User(pk=5), ["user.5"]),
        (SimpleLazyObject(lambda: User(pk=5)), ["user.5"]),
        (["orders", "room.5"], ["orders", "room.5"]),
        (["orders", User(pk=5), ["room.5", (User(pk=6),)]], ["orders", "user.5", "room.5", "user.6"]),
        ({"b": 1, "a": 2}.keys(), ["b", "a"]),
        (["orders", "orders", ["orders", User(pk=5)], "user.5"], ["orders", "user.5"]),
        ([], []),
    ],
)
async def test_an_event_goes_to_whom_it_says(publish: Publish, to: Any, topics: list[str]) -> None:
    """A topic, a user, or several of these, however nested; each once, in the order given."""
    assert topics_of(to) == tuple(topics)

    await publish(to, "order-saved", {"id": 1})

    assert {topic: texts(topic) for topic in topics} == {topic: ['{"id":1}'] for topic in topics}


async def test_an_iterator_is_used_once(publish: Publish) -> None:
    """Topics may come from a generator."""
    await publish((f"room.{number}" for number in range(3)), "order-saved")

    assert [texts(f"room.{number}") for number in range(4)] == [["null"], ["null"], ["null"], []]


@pytest.mark.parametrize(
    ("to", "telling"),
    [
        ("two words", "use 1 to 200 characters without blanks"),
        ("", "use 1 to 200 characters"),
        ("sse-control", "'sse-' are this package's"),
        (AnonymousUser(), "anonymous or not saved"),
        (User(username="ann"), "anonymous or not saved"),
        (None, "cannot be sent to None: name a topic, a user, or an iterable of these"),
        (5, "cannot be sent to 5: name a topic"),
        (b"orders", "cannot be sent to b'orders': name a topic"),
        (SimpleNamespace(pk=5), "name a topic, a user, or an iterable"),
        (["orders", None], "cannot be sent to None"),
    ],
)
async def test_wrong_recipients_are_refused(publish: Publish, to: Any, telling: str) -> None:
    """The error says what was wrong and what to give, and nothing is sent to the others either."""
    with pytest.raises(TopicError, match=re.escape(telling)):
        await publish(to, "order-saved")

    assert sent() == []


# -- what ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "null"),
        ({"data": {"id": 1, "names": ["ä", None, True, 1.5]}}, '{"id":1,"names":["ä",null,true,1.5]}'),
        ({"data": "hi"}, '"hi"'),
        ({"data": 0}, "0"),
        ({"text": "hi"}, "hi"),
        ({"text": ""}, ""),
        ({"text": "one\r\ntwo\rthree"}, "one\ntwo\nthree"),
        ({"data": Decimal("1.50")}, '"1.50"'),
        ({"data": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)}, '"2026-01-02T00:00:00Z"'),
        ({"data": uuid.UUID(int=5)}, '"00000000-0000-0000-0000-000000000005"'),
        ({"data": gettext_lazy("Yes")}, '"Yes"'),
    ],
)
async def test_data_is_json_and_text_is_text(publish: Publish, arguments: Any, text: str) -> None:
    """Data is encoded as Django does, compactly; text is sent as it is, its line ends as LF."""
    await publish("orders", "order-saved", **arguments)

    assert sent() == [Event(name="order-saved", text=text)]


async def test_the_first_arguments_are_positional(publish: Publish) -> None:
    """Recipients, name and data, as in other packages."""
    await publish("orders", "order-saved", [1])

    assert sent() == [Event(name="order-saved", text="[1]")]


@given(JSON)
def test_data_of_any_kind_arrives_intact(data: Any) -> None:
    """What was encoded and parsed is what was sent, whatever its strings hold."""
    event = make_event("order-saved", data)

    [message] = Parser().feed(encode(event))

    assert json.loads(message.text) == data
    assert "\n" not in event.text


class Plus(DjangoJSONEncoder):
    """A project's encoder."""

    def default(self, o: object) -> object:
        """Encode one more type."""
        return f"{o.real}+{o.imag}i" if isinstance(o, complex) else super().default(o)


async def test_a_project_may_encode_more(publish: Publish, settings: Settings) -> None:
    """What JSON_ENCODER can say may be sent."""
    settings.DJANGO_SSE = {"JSON_ENCODER": f"{__name__}.Plus"}

    await publish("orders", "order-saved", {"z": 1 + 2j})

    assert texts() == ['{"z":"1.0+2.0i"}']


def nested(depth: int) -> Any:
    """Return a list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("arguments", "telling"),
    [
        ({"data": math.nan}, "is not JSON: Out of range float"),
        ({"data": [1, {"a": -math.inf}]}, "is not JSON: Out of range float"),
        (
            {"data": {"rows": [{"ok": 1}, {"who": object()}]}},
            "the data['rows'][1]['who'] (object) of event 'order-saved' is not JSON: Object of type object",
        ),
        (
            {"data": object()},
            "Object of type object is not JSON serializable; send values that JSON has, or set",
        ),
        ({"data": {1, 2}}, "or set DJANGO_SSE['JSON_ENCODER']"),
        ({"data": {(1, 2): 3}}, "is not JSON: keys must be"),
        ({"data": endless()}, "is not JSON: Circular reference"),
        ({"data": nested(100_000)}, "is not JSON: "),
        ({"data": "\ud800"}, "lone surrogate '\\ud800', which has no UTF-8: mend or replace it"),
        ({"data": 1, "text": "hi"}, "was given data and text: give one of them"),
        ({"text": 5}, "is a string, not int: use data="),
        ({"text": "a\0b"}, "holds NUL: send it as data=, JSON escapes it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_sent_is_refused(publish: Publish, arguments: Any, telling: str) -> None:
    """The error names the event, what is wrong, and what to do, at the call."""
    with pytest.raises(EventError, match=re.escape(telling)) as caught:
        await publish("orders", "order-saved", **arguments)

    assert "'order-saved'" in str(caught.value)
    assert sent() == []


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("", "is empty: give it a name"),
        ("a\r\nb", "CR, LF or NUL, which would end its line: use letters, digits, dashes"),
        ("\0", "CR, LF or NUL"),
        ("\ud800", "lone surrogate"),
        ("sse-open", "is reserved: names starting with 'sse-'"),
        ("error", "would fire EventSource's own handlers; choose another"),
        (None, "an event's name is a string, not None"),
    ],
)
async def test_wrong_names_are_refused(publish: Publish, name: Any, telling: str) -> None:
    """A name that could not stand in its line, or is not the project's, is refused at the call."""
    with pytest.raises(EventError, match=re.escape(telling)):
        await publish("orders", name)

    assert sent() == []


async def test_an_oversized_event_is_refused(publish: Publish, settings: Settings) -> None:
    """What just fits is sent; one byte more is refused, with the size, the limit, and what to do."""
    settings.DJANGO_SSE = {"MAX_EVENT": 1000}
    room = 1000 - len(Event(name="order-saved", text="").block)

    await publish("orders", "order-saved", text="é" * (room // 2) + "x" * (room % 2))
    with pytest.raises(EventError) as caught:
        await publish("orders", "order-saved", text="x" * (room + 1))

    assert [len(event.block) for event in sent()] == [1000]
    assert str(caught.value) == (
        "event 'order-saved' has 1001 bytes, more than DJANGO_SSE['MAX_EVENT'] = 1000: "
        "send an id or an address that the page fetches, or raise the limit"
    )


# -- and then ------------------------------------------------------------------------------------------


async def test_who_hears_is_told(publish: Publish) -> None:
    """Each entry rings the hubs of this process, after it stands in the history."""
    ear = Ear(asyncio.get_running_loop())
    layers.register(ear)

    await publish(["orders", "room.5"], "order-saved", 1)
    await asyncio.sleep(0)

    assert [(entry.topic, entry.event.text) for entry in ear.heard] == [("orders", "1"), ("room.5", "1")]
    assert [entry.position for entry in ear.heard] == list(get_history().tail(["orders", "room.5"]).values())


async def test_receivers_are_told_of_each_entry(publish: Publish) -> None:
    """Plain receivers and coroutines of event_sent get the entry, once per topic."""
    told: list[tuple[str, str]] = []

    def plain(*, entry: Entry, **kwargs: Any) -> None:
        told.append(("plain", entry.topic))

    async def coroutine(*, entry: Entry, **kwargs: Any) -> None:
        told.append(("coroutine", entry.topic))

    event_sent.connect(plain)
    event_sent.connect(coroutine)
    try:
        await publish(["orders", "room.5"], "order-saved")
    finally:
        event_sent.disconnect(plain)
        event_sent.disconnect(coroutine)

    assert sorted(told) == sorted(
        (kind, topic) for kind in ("plain", "coroutine") for topic in ("orders", "room.5")
    )


async def test_a_receiver_that_fails_costs_nothing(
    publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, once, and the event is sent to everybody."""

    def fails(**kwargs: Any) -> None:
        raise ZeroDivisionError("a receiver's own fault")

    event_sent.connect(fails)
    try:
        await publish(["orders", "room.5"], "order-saved")
    finally:
        event_sent.disconnect(fails)

    assert (len(sent("orders")), len(sent("room.5"))) == (1, 1)
    failures = [record for record in caplog.records if record.exc_info]
    assert [record.levelname for record in failures] == ["ERROR", "ERROR"]  # one per topic
    assert "fails" in failures[0].getMessage()


async def test_a_stale_version_is_not_told(publish: Publish) -> None:
    """What the history drops, nobody hears of."""
    ear = Ear(asyncio.get_running_loop())
    layers.register(ear)

    for version in (2, 1, 2, 3):
        await publish("orders", "order-saved", version, key="order.1", version=version)
    await asyncio.sleep(0)

    assert texts() == ["2", "3"]
    assert [entry.event.text for entry in ear.heard] == ["2", "3"]


async def test_a_version_without_its_key_is_refused(publish: Publish) -> None:
    """Key and version are given together or not at all."""
    with pytest.raises(EventError, match="give both or none"):
        await publish("orders", "order-saved", 1, version=1)
    with pytest.raises(EventError, match="give both or none"):
        await publish("orders", "order-saved", 1, key="order.1")


async def test_an_idempotency_key_is_one_event(publish: Publish) -> None:
    """Two sendings with the same key are one event in each topic."""
    for number in (1, 2):
        await publish(["orders", "room.5"], "order-saved", number, idempotency_key="k")

    assert (texts("orders"), texts("room.5")) == (["1"], ["1"])


# -- when: transactions --------------------------------------------------------------------------------


class Rollback(Exception):  # noqa: N818  (nothing is wrong)
    """Rolls a block back."""


@pytest.mark.django_db(transaction=True)
def test_a_commit_sends() -> None:
    """In a transaction nothing is sent before its end, then everything in order."""
    with transaction.atomic():
        send_event("orders", "order-saved", 1)
        with transaction.atomic():
            send_event("orders", "order-saved", 2)
        send_event("orders", "order-saved", 3)
        assert sent() == []

    assert texts() == ["1", "2", "3"]


@pytest.mark.django_db(transaction=True)
def test_a_rollback_sends_nothing() -> None:
    """No event without commit."""
    with suppress(Rollback), transaction.atomic():
        send_event("orders", "order-saved", 1)
        raise Rollback

    with transaction.atomic():
        send_event("orders", "order-saved", 2)
        transaction.set_rollback(True)

    assert sent() == []


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_savepoint_drops_its_events() -> None:
    """What surrounds it is sent all the same."""
    with transaction.atomic():
        send_event("orders", "order-saved", 1)
        with suppress(Rollback), transaction.atomic():
            send_event("orders", "order-saved", 2)
            with transaction.atomic():
                send_event("orders", "order-saved", 3)
            raise Rollback
        send_event("orders", "order-saved", 4)

    assert texts() == ["1", "4"]


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_it_is_sent_at_once() -> None:
    """Where there is nothing to wait for, nothing waits."""
    User.objects.create(username="ann")  # there is a connection, in autocommit
    assert connection.connection is not None

    send_event("orders", "order-saved", 1)

    assert texts() == ["1"]


@pytest.mark.django_db(transaction=True)
def test_it_can_be_sent_before_the_commit() -> None:
    """With on_commit=False it is sent now, whatever becomes of the transaction."""
    with suppress(Rollback), transaction.atomic():
        send_event("orders", "order-saved", 1, on_commit=False)
        assert texts() == ["1"]
        raise Rollback

    assert texts() == ["1"]


@pytest.mark.django_db(transaction=True)
def test_values_are_those_of_the_call() -> None:
    """What is sent after the commit is what it was when it was given, not what it became."""
    data, to = {"id": 1}, ["orders"]
    with transaction.atomic():
        send_event(to, "order-saved", data)
        data["id"] = 2
        to.append("room.5")

    assert (texts("orders"), texts("room.5")) == (['{"id":1}'], [])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("two words", "order-saved"), TopicError),
        (("orders", "open"), EventError),
        (("orders", "order-saved", object()), EventError),
    ],
)
def test_wrong_arguments_raise_at_the_call(arguments: Any, error: type[Exception]) -> None:
    """Not after the commit, where nobody could mend them."""
    with transaction.atomic(), pytest.raises(error):
        send_event(*arguments)

    assert sent() == []


@pytest.mark.django_db(transaction=True)
def test_a_wrong_configuration_raises_at_the_call(settings: Settings) -> None:
    """A project whose events nobody could hear learns of it in its view, not in its log."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.SharedLayer"}}
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": "django_sse.history.MemoryHistory"}}

    with transaction.atomic(), pytest.raises(ImproperlyConfigured, match="which several processes share"):
        send_event("orders", "order-saved")


@pytest.mark.django_db(transaction=True)
def test_manual_transactions_are_refused() -> None:
    """Where Django cannot tell a commit, it says so; sending now still works."""
    connection.set_autocommit(False)
    try:
        with pytest.raises(TransactionManagementError, match="on_commit"):
            send_event("orders", "order-saved", 1)
        send_event("orders", "order-saved", 2, on_commit=False)
    finally:
        connection.rollback()
        connection.set_autocommit(True)

    assert texts() == ["2"]


@pytest.mark.django_db
def test_the_tests_of_projects_see_what_was_sent(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """In a TestCase's transaction, Django's own helper runs what waits for the commit."""
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        send_event("orders", "order-saved", 1)
        assert sent() == []

    assert len(callbacks) == 1
    assert texts() == ["1"]


class NotedConnection:
    """A connection in a transaction, which notes what waits for its commit."""

    connection = object()
    in_atomic_block = True
    autocommit = True

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def on_commit(self, function: Callable[[], None], *, robust: bool) -> None:
        """Note what waits."""
        assert robust
        self.waiting.append(function)


def test_the_database_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event waits for the commit of the database `using`, and of no other."""
    default, other = NotedConnection(), NotedConnection()
    monkeypatch.setattr("django_sse.commits.connections", {"default": default, "other": other})

    send_event("orders", "order-saved", 1, using="other")

    assert (len(default.waiting), len(other.waiting), sent()) == (0, 1, [])
    other.waiting[0]()
    assert texts() == ["1"]


def test_an_unknown_database_is_refused() -> None:
    """A mistyped alias raises at the call."""
    with pytest.raises(ConnectionDoesNotExist):
        send_event("orders", "order-saved", using="missing")


def test_sending_opens_no_connection() -> None:
    """A process that has no database connection does not get one from sending."""
    found: list[object] = []

    def send() -> None:
        send_event("orders", "order-saved", 1)
        found.append(connections["default"].connection)  # each thread has its own

    thread = threading.Thread(target=send)
    thread.start()
    thread.join(timeout=10)

    assert found == [None]
    assert texts() == ["1"]


# -- when it fails -------------------------------------------------------------------------------------


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what this package has logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("broken")
def test_a_failure_after_the_commit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The transaction is done: the request goes on, and so does what else waited for the commit."""
    ran = []
    with transaction.atomic():
        send_event("orders", "order-saved", 1)
        send_event("room.5", "order-saved", 2)
        transaction.on_commit(lambda: ran.append("after"))

    assert ran == ["after"]
    assert texts("room.5") == ["2"]
    assert logged(caplog) == ["An event was not sent"]
    assert "event 'order-saved' was not sent to 'orders': the history does not answer" in caplog.text
    assert "no answer" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_not_even_a_bug_breaks_the_commit(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is raised after the commit, Django logs it, and runs what else waited."""

    def fails(entry: Entry) -> bool:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(layers, "ring", fails)
    ran = []
    with transaction.atomic():
        send_event("orders", "order-saved", 1)
        transaction.on_commit(lambda: ran.append("after"))

    assert ran == ["after"]
    assert "a bug" in caplog.text


@pytest.mark.usefixtures("broken")
def test_a_failure_at_once_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    """Without a transaction the same call behaves the same: it is logged, never raised."""
    send_event("orders", "order-saved", 1)

    assert logged(caplog) == ["An event was not sent"]


def test_a_fault_of_a_history_at_once_is_logged_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a history should never raise does not reach the request either."""

    def fail(self: MemoryHistory, *args: Any, **kwargs: Any) -> Entry | None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(MemoryHistory, "append", fail)
    send_event("orders", "order-saved", 1)

    assert logged(caplog) == ["An event was not sent"]
    assert "a bug" in caplog.text


@pytest.mark.usefixtures("broken")
async def test_a_failure_now_raises(publish: Publish) -> None:
    """Who sends now learns what was not sent, and to whom; what came before it was sent."""
    with pytest.raises(PublishError, match="event 'order-saved' was not sent to 'orders'") as caught:
        await publish(["room.5", "orders", "room.6"], "order-saved", 1)

    assert isinstance(caught.value.__cause__, HistoryError)
    assert (texts("room.5"), texts("room.6")) == (["1"], [])


# -- where ---------------------------------------------------------------------------------------------


async def test_a_running_loop_is_not_blocked() -> None:
    """In a coroutine the plain call is refused, and names the one that belongs there."""
    with pytest.raises(SynchronousOnlyOperation, match=r"use `await asend_event\(\)`"):
        send_event("orders", "order-saved")
    with pytest.raises(SynchronousOnlyOperation, match=r"use `await asend_event\(\)`"):
        send_event("orders", "order-saved", on_commit=False)

    assert sent() == []


async def test_plain_code_under_a_loop_may_send() -> None:
    """What runs through sync_to_async has no loop of its own."""
    await sync_to_async(send_event)("orders", "order-saved", 1)

    assert texts() == ["1"]


# -- where a topic stands ------------------------------------------------------------------------------


async def test_a_cursor_is_where_topics_stand() -> None:
    """Both twins give the cursor of the tails, which a stream resumes from."""
    await asend_event("orders", "order-saved", 1)

    text = get_cursor("orders", "room.5")

    assert text == await aget_cursor("orders", "room.5")
    assert Cursor.parse(text) == Cursor.of(get_history().tail(["orders", "room.5"]))
    assert get_cursor() == await aget_cursor() == "1"
    await asend_event("orders", "order-saved", 2)
    assert get_cursor("orders", "room.5") != text


async def test_a_cursor_of_a_wrong_topic_is_refused() -> None:
    """As an event to it is."""
    with pytest.raises(TopicError):
        get_cursor("two words")
    with pytest.raises(TopicError):
        await aget_cursor("orders", "two words")


# -- revoking ----------------------------------------------------------------------------------------


def revoked() -> list[str]:
    """Return the users who were revoked, in order."""
    history = get_history()
    assert isinstance(history, MemoryHistory)
    entries = history._logs[CONTROL_TOPIC].entries.values() if CONTROL_TOPIC in history._logs else ()
    return [Revocation.of(entry.event).user for entry in entries]


async def test_both_ways_to_revoke() -> None:
    """A user is revoked by either; it is no event of the project's, so no signal tells of it."""
    told: list[object] = []

    def note(**arguments: object) -> None:
        told.append(arguments)

    event_sent.connect(note)
    try:
        await arevoke(User(pk=1))
        await sync_to_async(revoke)(User(pk=2))
    finally:
        event_sent.disconnect(note)
    assert revoked() == ["user.1", "user.2"]
    assert told == []


@pytest.mark.django_db(transaction=True)
def test_a_revocation_waits_for_the_commit() -> None:
    """What a rollback undoes ends nothing; on request it is told at once."""
    with suppress(Rollback), transaction.atomic():
        revoke(User(pk=1))
        raise Rollback
    assert revoked() == []
    with transaction.atomic():
        revoke(User(pk=1))
        assert revoked() == []
    assert revoked() == ["user.1"]
    with suppress(Rollback), transaction.atomic():
        revoke(User(pk=2), on_commit=False)
        raise Rollback
    assert revoked() == ["user.1", "user.2"]


async def test_a_revocation_that_cannot_be_told(
    broken: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Told now it raises, so that the caller knows; after a commit it is logged."""
    monkeypatch.setattr(BrokenHistory, "broken", {CONTROL_TOPIC})
    with pytest.raises(PublishError, match=r"'user\.1' do not end"):
        await arevoke(User(pk=1))
    with pytest.raises(PublishError, match=r"'user\.1' do not end"):
        await sync_to_async(revoke)(User(pk=1), on_commit=False)
    assert caplog.text == ""
    await sync_to_async(revoke)(User(pk=1))
    assert "An event was not sent" in caplog.text


async def test_who_cannot_be_revoked() -> None:
    """A visitor has no account, and so no streams that are theirs."""
    with pytest.raises(TopicError, match="anonymous"):
        await arevoke(AnonymousUser())
    with pytest.raises(SynchronousOnlyOperation, match="arevoke"):
        revoke(User(pk=1))


# -- a process that nobody hears -----------------------------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what this package has warned of."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_an_unheard_process_is_told_once(publish: Publish, caplog: pytest.LogCaptureFixture) -> None:
    """Where no request ever came and nothing is shared, one warning says what to configure."""
    await publish(["orders", "room.5"], "order-saved")
    await publish("orders", "order-saved")

    [told] = warnings(caplog)
    assert "Nobody hears the events of this process" in told
    assert "CHANNEL_LAYERS and DJANGO_SSE['HISTORY']" in told


def test_threads_are_told_once_together(caplog: pytest.LogCaptureFixture) -> None:
    """However many threads send first at once, the warning is one."""
    barrier = threading.Barrier(8)

    def send() -> None:
        barrier.wait(timeout=10)
        send_event("orders", "order-saved")

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert len(warnings(caplog)) == 1
    assert len(sent()) == 8


async def test_a_process_that_serves_is_not_warned(
    publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a request has come, streams may come too."""
    note_request()

    await publish("orders", "order-saved")

    assert warnings(caplog) == []


async def test_a_process_with_streams_is_not_warned(
    publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    """A hub hears."""
    layers.register(Ear(asyncio.get_running_loop()))

    await publish("orders", "order-saved")

    assert warnings(caplog) == []


class SharedHistory(MemoryHistory):
    """Stands for a history that several processes share."""

    shared = True


async def test_a_process_with_a_shared_history_is_not_warned(
    publish: Publish, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Its events are heard elsewhere."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{__name__}.SharedHistory"}}

    await publish("orders", "order-saved")

    assert warnings(caplog) == []


def test_the_warning_is_seen_in_a_shell() -> None:
    """Whoever tries it in `manage.py shell` reads it, whatever logging is configured, and only once."""
    script = """
import django
django.setup()
from django_sse import send_event
send_event("orders", "order-saved", 1)
send_event("orders", "order-saved", 2)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.stderr.count("Nobody hears the events of this process") == 1
    assert (run.returncode, len(run.stderr.splitlines())) == (0, 1)


def test_a_forked_child_is_told_for_itself() -> None:
    """Whether its parent served or was warned says nothing about a child: it is another process."""
    script = """
import os
import django
django.setup()
from django_sse import hearing, send_event

hearing.note_request()
hearing._hearing.lock.acquire()
send_event("orders", "order-saved", 1)
if os.fork() == 0:
    send_event("orders", "order-saved", 2)
    os._exit(0)
os.wait()
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.stderr.count("Nobody hears the events of this process") == 1
    assert (run.returncode, len(run.stderr.splitlines())) == (0, 1)
