"""The progress of long work: when it is told, what it says, and that the work never suffers from it."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from threading import Thread
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from django.utils.functional import lazystr
from pytest_django import Settings

from django_sse import hearing, layers, progress
from django_sse.exceptions import EventError, HistoryError, TopicError
from django_sse.history import MemoryHistory
from django_sse.jobs import job_of
from django_sse.positions import Entry
from django_sse.progress import Progress, atrack, track
from django_sse.publishing import asend_event
from django_sse.signals import event_sent
from tests.app.models import Room
from tests.test_publishing import sent
from tests.waiting import eventually


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture(autouse=True)
def clock(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Begin with an empty history, nobody who hears, and a clock of the test's own."""
    settings.DJANGO_SSE = {}
    monkeypatch.setattr(layers, "_process", layers._Process())
    monkeypatch.setattr(hearing, "_hearing", hearing._Hearing())
    hearing.note_request()  # nothing is said of a process that serves no pages
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


class FailingHistory(MemoryHistory):
    """A history that can be away, and takes its time to say so."""

    appends = 0
    fault: Exception | None = None
    on_append: Callable[[], object] = staticmethod(lambda: None)

    def append(self, topic: str, *args: Any, **kwargs: Any) -> Entry | None:
        """Append, or fail."""
        type(self).appends += 1
        type(self).on_append()
        if self.fault is not None:
            raise self.fault
        return super().append(topic, *args, **kwargs)


@pytest.fixture
def history(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> type[FailingHistory]:
    """Return the class of the history, which tells its one instance what to do."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{__name__}.FailingHistory"}}
    for name in ("appends", "fault", "on_append"):
        monkeypatch.setattr(FailingHistory, name, vars(FailingHistory)[name])
    return FailingHistory


def told(topic: str = "jobs") -> list[dict[str, Any]]:
    """Return what was told of jobs."""
    assert all(event.name == "progress" and job_of(event) for event in sent(topic))
    return [json.loads(event.text) for event in sent(topic)]


def steps(topic: str = "jobs") -> list[tuple[int, str]]:
    """Return how far jobs were, and their states."""
    return [(data["done"], data["state"]) for data in told(topic)]


# -- what is told, and when ----------------------------------------------------------------------------


def test_track(clock: Clock) -> None:
    """A loop's rows come as they are, and it is told at once, then after each interval, and at its end."""
    rows = []
    for row in track("abcdef", to="jobs", label="Import", id="job-1"):
        rows.append(row)
        clock.now += 0.1

    assert rows == list("abcdef")
    same = {"id": "job-1", "label": "Import", "total": 6}
    assert told() == [
        {**same, "done": 0, "percent": 0, "state": "running"},
        {**same, "done": 3, "percent": 50, "state": "running"},
        {**same, "done": 6, "percent": 100, "state": "running"},
        {**same, "done": 6, "percent": 100, "state": "done"},
    ]


async def asynchronously(rows: str) -> AsyncIterator[str]:
    """Give rows as a coroutine does."""
    for row in rows:
        yield row


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_atrack(clock: Clock, kind: str) -> None:
    """A coroutine's loop does the same, over rows of both kinds."""
    rows = []
    async for row in atrack("abcdef" if kind == "sync" else asynchronously("abcdef"), to="jobs", total=6):
        rows.append(row)
        clock.now += 0.1

    assert rows == list("abcdef")
    assert steps() == [(0, "running"), (3, "running"), (6, "running"), (6, "done")]
    assert {data["total"] for data in told()} == {6}


async def test_atrack_takes_the_length_where_it_costs_nothing() -> None:
    """A list has a length; what is asynchronous is not asked for one, which may be a query."""
    assert [row async for row in atrack([1, 2], to="sized")] == [1, 2]
    assert [row async for row in atrack(asynchronously("ab"), to="unsized")] == ["a", "b"]

    assert {data["total"] for data in told("sized")} == {2}
    assert {data["total"] for data in told("unsized")} == {None}


@pytest.mark.django_db
def test_a_query_is_asked_once(django_assert_num_queries: Callable[[int], Any]) -> None:
    """A QuerySet's length and its rows are one query."""
    Room.objects.create(name="one")
    with django_assert_num_queries(1):
        assert [room.name for room in track(Room.objects.all(), to="jobs")] == ["one"]
    assert told()[-1]["total"] == 1


def test_a_length_that_is_unknown() -> None:
    """Without a length there are no percents; a total that is given counts, also where it was wrong."""
    list(track(iter("abc"), to="unknown"))
    list(track(iter("abc"), to="given", total=2))

    assert [(data["total"], data["percent"]) for data in told("unknown")] == [(None, None)] * 2
    assert [(data["done"], data["percent"]) for data in told("given")] == [(0, 0), (3, 100)]


def test_no_rows() -> None:
    """An empty job begins and is done."""
    assert list(track([], to="jobs")) == []
    assert [(data["percent"], data["state"]) for data in told()] == [(100, "running"), (100, "done")]


def test_a_block(clock: Clock) -> None:
    """A block may count as it likes, and sees its job."""
    with Progress(["jobs", User(pk=5)], label="Import", total=100) as job:
        job.advance(20)
        clock.now += 0.25
        job.advance(30)
        assert (job.done, job.total, job.label) == (50, 100, "Import")
        job.advance(0)

    assert steps() == [(0, "running"), (50, "running"), (50, "done")]
    assert {data["id"] for data in told()} == {job.id}
    assert told("user.5") == told()


async def test_an_asynchronous_block(clock: Clock) -> None:
    """So may a coroutine's."""
    async with Progress("jobs", total=100) as job:
        await job.aadvance(20)
        clock.now += 0.25
        await job.aadvance(30)

    assert steps() == [(0, "running"), (50, "running"), (50, "done")]


@pytest.mark.parametrize(("interval", "expected"), [(0, 12), (0.25, 7), (60, 2)])
def test_interval(clock: Clock, interval: float, expected: int) -> None:
    """Between two events lies the interval at least; the first and the last wait for nothing."""
    for _ in track(range(10), to="jobs", interval=interval):
        clock.now += 0.125
    assert len(told()) == expected


def test_each_job_has_an_id_of_its_own() -> None:
    """It is drawn at random, unless it is given."""
    jobs = [Progress("jobs").id for _ in range(50)]
    assert len(set(jobs)) == 50
    assert all(job.isalnum() for job in jobs)
    assert Progress("jobs", id="import-5").id == "import-5"


def test_a_label_in_the_language_of_the_request() -> None:
    """A lazy label is read when the job is made."""
    with Progress("jobs", label=lazystr("Einlesen")) as job:
        assert type(job.label) is str
    assert told()[0]["label"] == "Einlesen"


# -- how it ends ---------------------------------------------------------------------------------------


class WorkError(Exception):
    """What the work raises."""


def broken_rows() -> Iterator[int]:
    """Raise behind the first row."""
    yield 1
    raise WorkError


async def abroken_rows() -> AsyncIterator[int]:
    """Raise behind the first row."""
    yield 1
    raise WorkError


def test_rows_that_raise() -> None:
    """Where the rows raise, the job failed, and the error goes on."""
    with pytest.raises(WorkError):
        list(track(broken_rows(), to="jobs"))
    assert steps() == [(0, "running"), (1, "failed")]


async def test_asynchronous_rows_that_raise() -> None:
    """Where the rows of a coroutine raise, the same happens."""
    for rows in (broken_rows(), abroken_rows()):
        with pytest.raises(WorkError):
            [row async for row in atrack(rows, to="jobs")]
    assert steps() == [(0, "running"), (1, "failed")] * 2


def test_a_body_that_raises() -> None:
    """Where the loop's body raises, the job failed, and that is told before the error is handled."""

    def fail(row: int) -> None:
        if row == 2:
            raise WorkError

    try:
        for row in track(range(5), to="jobs"):
            fail(row)
    except WorkError:
        assert steps() == [(0, "running"), (2, "failed")]
    assert len(steps()) == 2


def test_a_loop_that_is_left() -> None:
    """A loop that is left early failed: its iterator cannot know whether that was meant."""
    for row in track(range(5), to="jobs"):
        if row == 2:
            break
    assert steps() == [(0, "running"), (2, "failed")]


async def test_an_asynchronous_loop_that_is_left() -> None:
    """A coroutine's loop that is left early failed, which is told soon after, or where it is closed."""
    async for row in atrack(range(5), to="jobs"):
        if row == 2:
            break
    await eventually(lambda: steps() == [(0, "running"), (2, "failed")])

    async with aclosing(atrack(range(5), to="closed")) as rows:
        async for _ in rows:
            break
    assert steps("closed") == [(0, "running"), (0, "failed")]


def test_a_block_that_is_left() -> None:
    """A block knows how it is left: only an error is a failure."""
    for job in [Progress("jobs", total=5)]:
        with job:
            job.advance(2)
            break
    assert steps() == [(0, "running"), (2, "done")]


def test_a_block_that_raises() -> None:
    """A block that raises failed, and the error goes on."""
    with pytest.raises(WorkError), Progress("jobs"):
        raise WorkError
    assert steps() == [(0, "running"), (0, "failed")]


async def test_a_task_that_is_cancelled() -> None:
    """A coroutine that is cancelled tells that it failed, and is cancelled."""

    async def work() -> None:
        async with Progress("jobs"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await eventually(told)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps() == [(0, "running"), (0, "failed")]


def test_nothing_follows_the_last_event(clock: Clock) -> None:
    """A thread that outlives its block is heard no more, and does not fail for it."""
    with Progress("jobs") as job:
        job.advance()
    clock.now += 60
    job.advance()
    assert steps() == [(0, "running"), (1, "done")]


def test_rows_that_nobody_takes() -> None:
    """A loop that never begins tells nothing."""
    track(range(5), to="jobs").close()
    assert told() == []


# -- the work comes first ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [HistoryError("no answer"), ValueError("a fault of the history's own")])
def test_what_cannot_be_told(
    clock: Clock, history: type[FailingHistory], caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    """The work goes on, it is logged once per job, and told again when that is possible."""
    history.fault = fault
    for row in track(range(6), to="jobs", label="Import"):
        clock.now += 1
        if row == 3:
            history.fault = None

    assert steps() == [(4, "running"), (5, "running"), (6, "running"), (6, "done")]
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "django_sse.progress")
    assert "Import" in record.getMessage()
    assert record.exc_info

    history.fault = fault
    list(track(range(6), to="jobs"))
    assert len(caplog.records) == 2


async def test_what_cannot_be_told_by_a_coroutine(
    clock: Clock, history: type[FailingHistory], caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine's work goes on as well."""
    history.fault = HistoryError("no answer")
    async for _ in atrack(range(6), to="jobs"):
        clock.now += 1
    assert len(caplog.records) == 1
    assert history.appends == 8


def test_the_work_raises_its_own_error(history: type[FailingHistory]) -> None:
    """Where the failure itself cannot be told, the work's error goes on, and no other."""
    history.fault = HistoryError("no answer")
    with pytest.raises(WorkError), Progress("jobs"):
        raise WorkError


def test_a_slow_history_takes_a_tenth_of_the_time(clock: Clock, history: type[FailingHistory]) -> None:
    """Where a sending takes long, the work goes on nine times as long before the next."""

    def wait() -> None:
        clock.now += 5

    history.on_append = staticmethod(wait)
    began = clock.now
    for _ in track(range(1000), to="jobs", interval=0.25):
        clock.now += 0.1
    work = 1000 * 0.1
    assert 100 <= work < clock.now - began <= work + 5 * history.appends
    assert history.appends == 1 + 2 + 1


@pytest.mark.django_db(transaction=True)
def test_in_a_transaction(clock: Clock) -> None:
    """Progress does not wait for the commit, and a rollback does not take it back."""
    with suppress(WorkError), transaction.atomic():
        for row in track(range(4), to="jobs"):
            clock.now += 1
            assert steps()[-1] == (row, "running")
            if row == 2:
                raise WorkError
    assert steps()[-1] == (2, "failed")


# -- threads and tasks ---------------------------------------------------------------------------------


def test_threads_of_one_job(clock: Clock) -> None:
    """Several threads advance one job: nothing is lost, and it never goes back."""
    with Progress("jobs", total=4000, interval=0) as job:

        def work() -> None:
            for _ in range(1000):
                job.advance()

        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    counts = [data["done"] for data in told()]
    assert counts == [*range(4001), 4000]
    assert told()[-1]["state"] == "done"


async def test_tasks_of_one_job(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tasks advance one job: while an event is on its way, no other one overtakes it."""
    gate, under_way = asyncio.Event(), 0

    async def slowly(*args: Any, **kwargs: Any) -> None:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        await gate.wait()
        await asend_event(*args, **kwargs)
        under_way -= 1

    async with Progress("jobs", interval=0) as job:
        monkeypatch.setattr(progress, "asend_event", slowly)
        tasks = [asyncio.create_task(job.aadvance()) for _ in range(5)]
        await eventually(lambda: job.done == 5)
        asyncio.get_running_loop().call_soon(gate.set)
    await asyncio.gather(*tasks)

    assert steps() == [(0, "running"), (1, "running"), (5, "done")]


async def test_threads_of_a_coroutines_job(clock: Clock) -> None:
    """What a coroutine gives to threads may advance its job there."""
    async with Progress("jobs", total=2) as job:
        clock.now += 1
        await asyncio.to_thread(job.advance)
        with pytest.raises(SynchronousOnlyOperation, match="aadvance"):
            job.advance()
    assert steps() == [(0, "running"), (1, "running"), (1, "done")]


def test_a_receiver_that_advances_the_job() -> None:
    """Even a receiver of the event may count, which sends no event within an event."""
    with Progress("jobs", interval=0) as job:

        def count(**_: object) -> None:
            job.advance()

        event_sent.connect(count)
        job.advance()
        event_sent.disconnect(count)
    assert steps() == [(0, "running"), (1, "running"), (2, "done")]


# -- mistakes are told at the call ---------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"to": ""}, TopicError),
    ({"to": 5}, TopicError),
    ({"to": AnonymousUser()}, TopicError),
    ({"id": ""}, EventError),
    ({"id": "a b"}, EventError),
    ({"id": 5}, EventError),
    ({"total": -1}, EventError),
    ({"total": 1.5}, TypeError),
    ({"total": "5"}, TypeError),
    ({"interval": -1}, EventError),
    ({"interval": float("nan")}, EventError),
    ({"interval": float("inf")}, EventError),
    ({"label": "\ud800"}, EventError),
    ({"label": "x" * 2_000_000}, EventError),
]


@pytest.mark.parametrize("call", [track, atrack])
@pytest.mark.parametrize(("arguments", "error"), WRONG)
def test_wrong_arguments(call: Callable[..., Any], arguments: dict[str, Any], error: type[Exception]) -> None:
    """Whatever cannot work is refused at the call, not when the loop begins."""
    with pytest.raises(error):
        call([], **{"to": "jobs", **arguments})
    with pytest.raises(TypeError):
        call(5, to="jobs")


def test_wrong_settings(settings: Settings) -> None:
    """Settings that cannot work are told at the call, too."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": "nowhere.History"}}
    with pytest.raises(ImproperlyConfigured):
        track([], to="jobs")


async def test_plain_code_in_an_event_loop() -> None:
    """In a coroutine the plain forms are refused, with the name of the other one."""
    with pytest.raises(SynchronousOnlyOperation, match="async for row in atrack"):
        track([], to="jobs")
    with pytest.raises(SynchronousOnlyOperation, match="async with Progress"), Progress("jobs"):
        pass
    await asyncio.to_thread(lambda: list(track([], to="jobs")))
    assert steps() == [(0, "running"), (0, "done")]


def test_a_job_is_used_once() -> None:
    """A job that has not begun cannot advance, none advances backwards, and none begins twice."""
    job = Progress("jobs")
    with pytest.raises(RuntimeError, match="has not begun"):
        job.advance()
    with job:
        for wrong, error in ((-1, EventError), (0.5, TypeError)):
            with pytest.raises(error):
                job.advance(wrong)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="has begun before"), job:
        pass
    assert steps() == [(0, "running"), (0, "done")]
