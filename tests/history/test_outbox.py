"""The outbox: an event is appended if and only if its sender's transaction was committed, and once."""

import asyncio
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from django.db import connections, transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save
from pytest_django import Settings

from django_sse import send_event
from django_sse.exceptions import HistoryError
from django_sse.history import Page
from django_sse.history.database import DatabaseHistory
from django_sse.history.database import history as history_module
from django_sse.history.database import outbox as outbox_module
from django_sse.history.database.entries import topic_key
from django_sse.models import Outbox as Row
from django_sse.positions import Entry, Position
from django_sse.wire import Event
from tests.app.models import Article
from tests.history.databases import Make, aside, every_database, execute


@pytest.fixture(autouse=True)
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let events be swept that were written a moment ago."""
    monkeypatch.setattr(outbox_module, "_GRACE", -1.0)


class LeaveError(Exception):
    """What ends a transaction."""


def store(history: DatabaseHistory, text: str, *topics: str, **keys: object) -> Sequence[int]:
    """Write an event in a transaction, and commit it."""
    with transaction.atomic(using=history.using):
        return history.outbox.store(topics or ("orders",), Event(text=text), **keys)  # type: ignore[arg-type]


def texts(entries: object) -> list[tuple[str, str]]:
    """Return topics and texts."""
    assert isinstance(entries, list)
    return [(entry.topic, entry.event.text) for entry in entries]


def stored(history: DatabaseHistory, topic: str = "orders") -> list[str]:
    """Return the texts of a topic, from its beginning."""
    rows = asyncio.run(_read(history, topic))
    return [entry.event.text for entry in rows]


async def _read(history: DatabaseHistory, topic: str) -> tuple[Entry, ...]:
    tail = (await history.atail([topic]))[topic]
    if not tail.offset:
        return ()
    first = await asyncio.to_thread(aside, _first, history.using, topic)
    page = await history.read(topic, Position(offset=0, tag=first), limit=1000)
    assert isinstance(page, Page)
    return page.entries


def _first(alias: str, topic: str) -> int:
    with connections[alias].cursor() as cursor:
        query = "SELECT previous FROM django_sse_entry WHERE topic = %s ORDER BY time LIMIT 1"
        cursor.execute(query, (topic_key(topic),))
        previous: int = cursor.fetchone()[0]
        return previous


@every_database
def test_what_is_rolled_back_was_never_written(make: Make, vendor: str) -> None:
    """Neither a whole transaction nor a savepoint leaves an event behind."""
    history = make(vendor)
    with suppress(LeaveError), transaction.atomic(using=history.using):
        history.outbox.store(["orders"], Event(text="phantom"))
        raise LeaveError
    with transaction.atomic(using=history.using):
        with suppress(LeaveError), transaction.atomic(using=history.using):
            history.outbox.store(["orders"], Event(text="phantom"))
            raise LeaveError
        history.outbox.store(["orders"], Event(text="real"))

    assert texts(history.outbox.sweep()) == [("orders", "real")]
    assert stored(history) == ["real"]


@every_database
def test_an_event_is_delivered_once(make: Make, vendor: str) -> None:
    """Whoever comes second finds nothing to do, however many there are, and at whatever time."""
    history = make(vendor)
    numbers = [store(history, str(number), "orders", "room.5") for number in range(10)]
    with ThreadPoolExecutor(8) as threads:
        answers = [
            entries
            for number in numbers
            for entries in threads.map(lambda number: aside(history.outbox.deliver, number), [number] * 4)
        ]

    assert sorted(len(entries) for entries in answers) == [0] * 30 + [2] * 10
    assert history.outbox.sweep() == []
    assert stored(history) == stored(history, "room.5") == [str(number) for number in range(10)]


@every_database
def test_a_discarded_event_is_not_sent(make: Make, vendor: str) -> None:
    """A later one of the same transaction stands for it."""
    history = make(vendor)
    with transaction.atomic(using=history.using):
        first = history.outbox.store(["orders"], Event(text="first"))
        history.outbox.store(["orders"], Event(text="last"))
        history.outbox.discard(first)

    assert history.outbox.deliver(first) == []
    assert texts(history.outbox.sweep()) == [("orders", "last")]


@every_database
def test_a_stale_event_is_dropped_where_it_is_stale(make: Make, vendor: str) -> None:
    """One topic has seen a newer version, the other gets the event; idempotency keys hold likewise."""
    history = make(vendor)
    history.append("orders", Event(text="newer"), key="order.1", version=9)
    numbers = store(history, "older", "orders", "room.5", key="order.1", version=5)
    assert texts(history.outbox.deliver(numbers)) == [("room.5", "older")]

    again = [store(history, "once", "room.5", idempotency_key="k") for _ in range(2)]
    assert [len(history.outbox.deliver(numbers)) for numbers in again] == [1, 0]
    assert stored(history) == ["newer"]
    assert stored(history, "room.5") == ["older", "once"]


@every_database
def test_any_event_comes_out_as_it_went_in(make: Make, vendor: str) -> None:
    """Names, texts and topics of every script."""
    history = make(vendor)
    with transaction.atomic(using=history.using):
        event = Event(name="Grüße 🎉", text="\u2028 тема\n🎉")
        number = history.outbox.store(["Grüße/тема"], event)

    [entry] = history.outbox.deliver(number)
    assert (entry.topic, entry.event) == ("Grüße/тема", event)


def test_many_topics_are_several_rows(make: Make) -> None:
    """Each is appended in a transaction that ends in time, and all of them are."""
    history = make("sqlite")
    topics = [f"topic.{number:03}" for number in range(250)]
    numbers = store(history, "to all", *topics)

    assert len(numbers) == 3
    assert [entry.topic for entry in history.outbox.deliver(numbers)] == topics


def test_an_event_that_cannot_be_delivered_keeps_no_other(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays, and is logged; where nothing can be delivered the sweep ends, and says so."""
    history = make("sqlite")
    first, *_ = store(history, "stuck")
    for text in "abcd":
        store(history, text)
    deliver = history.outbox._deliver

    def fail(number: int, cursor: object) -> list[Entry]:
        if number == first:
            raise HistoryError("not this one")
        return deliver(number, cursor)

    monkeypatch.setattr(history.outbox, "_deliver", fail)
    assert [text for _, text in texts(history.outbox.sweep())] == ["a", "b", "c", "d"]
    assert "An event stays in the outbox: not this one" in caplog.text

    for text in "ef":
        store(history, text)
    vars(history.outbox)["_deliver"] = lambda number, cursor: fail(first, cursor)
    with pytest.raises(HistoryError, match="not this one"):
        history.outbox.sweep()
    assert Row.objects.using(history.using).count() == 3


def test_what_is_fresh_is_left_to_its_own_process(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep does not race with those who are about to deliver."""
    monkeypatch.setattr(outbox_module, "_GRACE", 60.0)
    history = make("sqlite")
    store(history, "fresh")

    assert history.outbox.sweep() == []
    execute(history.using, "UPDATE django_sse_outbox SET time = 1")
    assert texts(history.outbox.sweep()) == [("orders", "fresh")]


def test_a_damaged_row_stops_nobody(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What was not written by this package is removed and logged, without what it holds."""
    history = make("sqlite")
    store(history, "secret")
    execute(history.using, "UPDATE django_sse_outbox SET topics = %s", b"nonsense")
    store(history, "sound")

    with caplog.at_level(logging.ERROR):
        assert texts(history.outbox.sweep()) == [("orders", "sound")]
    assert "An event of the outbox is damaged" in caplog.text
    assert "secret" not in caplog.text
    assert Row.objects.using(history.using).count() == 0


async def test_a_hub_sweeps(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a dead process has left is appended and heard of, and a failure is no end of it."""
    monkeypatch.setattr(history_module, "_SWEEP", 0.01)
    history = make("sqlite")
    await asyncio.to_thread(aside, store, history, "left")
    heard: asyncio.Queue[tuple[str, Position]] = asyncio.Queue()
    asweep, failures = history.outbox.asweep, [HistoryError("not now")]

    async def sweep() -> object:
        if failures:
            raise failures.pop()
        return await asweep()

    monkeypatch.setattr(history.outbox, "asweep", sweep)
    tending = asyncio.create_task(history.tend(lambda *news: heard.put_nowait(news)))
    async with asyncio.timeout(30):
        topic, position = await heard.get()
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)

    assert (topic, position) == ("orders", (await history.atail(["orders"]))["orders"])
    assert "The outbox was not swept: not now" in caplog.text


# -- what is sent in a transaction -------------------------------------------------------------------


@pytest.fixture
def outbox(settings: Settings, make: Make, monkeypatch: pytest.MonkeyPatch) -> DatabaseHistory:
    """Return the history of a project with the outbox, in the database that the models are in."""
    history = make("sqlite")
    settings.DJANGO_SSE = {"OUTBOX": True}
    monkeypatch.setattr("django_sse.history._chosen", history)
    return history


def test_the_outbox_holds_one_event_of_a_row(outbox: DatabaseHistory) -> None:
    """What a later write replaces is taken out in the same transaction, so that no sweep can send it."""
    using = outbox.using
    with transaction.atomic(using=using):
        article = Article.objects.using(using).create(title="One")
        article.title = "Two"
        article.save()
        gone = Article.objects.using(using).create(title="Gone")
        with suppress(LeaveError), transaction.atomic(using=using):
            article.title = "Three"
            article.save()
            raise LeaveError
        gone.delete()
        rows = list(Row.objects.using(using).values_list("text", flat=True))

    assert [json.loads(bytes(text))["title"] for text in rows] == ["Two"]
    assert Row.objects.using(using).count() == 0
    assert outbox.tail(["articles"])["articles"].offset == 1


def test_what_is_sent_waits_in_the_outbox(outbox: DatabaseHistory, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the history does not answer after the commit: it is logged, and sent later, once."""
    deliver = outbox.outbox.deliver

    def fail(number: int) -> list[Entry]:
        raise HistoryError("not now")

    vars(outbox.outbox)["deliver"] = fail
    with transaction.atomic(using=outbox.using):
        send_event(["orders", "room.5"], "told", 1, using=outbox.using)
    del vars(outbox.outbox)["deliver"]

    assert deliver == outbox.outbox.deliver
    assert "stays in the outbox" in caplog.text
    assert stored(outbox) == []
    assert texts(outbox.outbox.sweep()) == [("orders", "1"), ("room.5", "1")]


def test_other_databases_do_without_the_outbox(outbox: DatabaseHistory) -> None:
    """What is sent outside of a transaction is appended at once, and so nothing stands in the table."""
    send_event("orders", "told", 1, using=outbox.using)

    assert stored(outbox) == ["1"]
    assert Row.objects.using(outbox.using).count() == 0


def test_its_rows_send_no_signals(outbox: DatabaseHistory) -> None:
    """A project's receiver for all models would tell of them, into the outbox again."""
    heard: list[type[object]] = []

    def hear(sender: type[object], **_: object) -> None:
        heard.append(sender)

    signals = (pre_save, post_save, pre_delete, post_delete)
    for signal in signals:
        signal.connect(hear)
    try:
        with transaction.atomic(using=outbox.using):
            article = Article.objects.using(outbox.using).create(title="One")
            article.save()
    finally:
        for signal in signals:
            signal.disconnect(hear)

    assert set(heard) == {Article}
