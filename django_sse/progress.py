"""The progress of long work, as events: in a loop by `track` and `atrack`, around anything by `Progress`."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Sized
from math import inf
from operator import index
from secrets import token_hex
from threading import RLock
from time import monotonic
from types import TracebackType
from typing import Final, Self, TypeVar

from django.utils.functional import Promise

from django_sse.exceptions import EventError
from django_sse.history import get_history
from django_sse.jobs import NAME, JobState, is_job_id, job_text
from django_sse.publishing import Recipients, asend_event, check_no_loop, make_event, send_event, topics_of

logger = logging.getLogger(__name__)

#: Seconds between two events of a job, at least: a bar that moves four times a second seems to flow.
INTERVAL: Final = 0.25
#: How many times as long as a sending the work goes on before the next: a history that is slow, or waits for
#: its time-out, takes a tenth of the work's time and not all of it.
_SHARE: Final = 9

_Row = TypeVar("_Row")


class Progress:
    """A job whose progress is sent: ``with Progress(user, total=100) as progress: progress.advance()``.

    In coroutines: ``async with``, and ``await progress.aadvance()``. The job is "done" where the block ends,
    "failed" where it raises. Events are sent at once, whatever transaction is open; what fails then is logged
    once, and the work goes on. Any number of threads or tasks of the block may advance it.

    Raises EventError for an id, a total or an interval that cannot be, TopicError for a wrong topic,
    ImproperlyConfigured for wrong settings.
    """

    def __init__(
        self,
        to: Recipients,
        *,
        label: str | Promise = "",
        total: int | None = None,
        id: str | None = None,  # noqa: A002  (what the event calls it)
        interval: float = INTERVAL,
    ) -> None:
        if id is not None and not is_job_id(id):
            msg = f"the id of a job cannot be {id!r}: use 1 to 64 letters, digits, '-' or '_' of ASCII"
            raise EventError(msg)
        if total is not None and index(total) < 0:
            msg = f"the total of a job cannot be {total!r}: give a number from 0 on, or None"
            raise EventError(msg)
        if not 0 <= interval < inf:
            msg = f"the interval of a job's events cannot be {interval!r}: give seconds from 0 on"
            raise EventError(msg)
        self.id = token_hex(8) if id is None else id
        self.label = str(label)  # in the language of the request, where it is lazy
        self.total = None if total is None else index(total)
        self.done = 0
        self._topics = topics_of(to)
        self._interval = interval
        self._state: JobState | None = None
        self._is_async = False
        self._next = inf
        self._has_failed = False
        # Events of one job must not overtake each other. Reentrant: a receiver of event_sent may advance it.
        self._lock = RLock()
        self._async_lock = asyncio.Lock()
        # What cannot be sent, or nowhere, is said here, where the mistake is.
        make_event(NAME, text=self._text("failed"))
        get_history()

    def advance(self, count: int = 1) -> None:
        """Note that so much more is done."""
        if self._is_async:
            check_no_loop("advance()", "await progress.aadvance()")
        with self._lock:
            if self._count(count):
                self._send()

    async def aadvance(self, count: int = 1) -> None:
        """Note that so much more is done."""
        if self._count(count):
            await self._asend()

    def __enter__(self) -> Self:
        check_no_loop("`with Progress(...)`", "async with Progress(...)")
        self._begin()
        self._send()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._state = "done" if kind is None else "failed"
            self._send()

    async def __aenter__(self) -> Self:
        self._begin()
        self._is_async = True
        await self._asend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._state = "done" if kind is None else "failed"
        await self._asend()

    def _begin(self) -> None:
        if self._state is not None:
            msg = f"the job {self.id!r} has begun before: make a Progress for each"
            raise RuntimeError(msg)
        self._state = "running"

    def _count(self, count: int) -> bool:
        """Count, and tell whether it is time for an event."""
        if self._state is None:
            msg = f"the job {self.id!r} has not begun: advance it inside of `with Progress(...) as progress:`"
            raise RuntimeError(msg)
        if count < 0:
            msg = f"a job cannot advance by {count!r}"
            raise EventError(msg)
        if self._state != "running":
            return False  # a thread that outlives the block; nothing may follow the last event
        self.done += index(count)
        return monotonic() >= self._next

    def _text(self, state: JobState) -> str:
        return job_text(id=self.id, label=self.label, done=self.done, total=self.total, state=state)

    def _send(self) -> None:
        began, self._next = monotonic(), inf
        try:
            send_event(self._topics, NAME, text=self._text(self._state or "running"), on_commit=False)
        except Exception as error:  # noqa: BLE001  (whatever it is, the work must not fail for it)
            self._note_failure(error)
        finally:
            self._plan(began)

    async def _asend(self) -> None:
        self._next = inf  # before anything is awaited: other tasks have no event to send now
        async with self._async_lock:
            began = monotonic()
            try:
                await asend_event(self._topics, NAME, text=self._text(self._state or "running"))
            except Exception as error:  # noqa: BLE001
                self._note_failure(error)
            finally:
                self._plan(began)

    def _plan(self, began: float) -> None:
        now = monotonic()
        self._next = max(began + self._interval, now + _SHARE * (now - began))

    def _note_failure(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            message = "The progress of %r (%s) was not sent; the work goes on"
            logger.error(message, self.label, self.id, exc_info=error)


def track(
    rows: Iterable[_Row],
    *,
    to: Recipients,
    label: str | Promise = "",
    total: int | None = None,
    id: str | None = None,  # noqa: A002
    interval: float = INTERVAL,
) -> Generator[_Row, None, None]:
    """Go through rows in a loop, and send how far it is.

    The total is the length of the rows where they have one. The job is "done" when all rows were taken. It is
    "failed" when the rows raise, or the loop ends before: from in here a `break` looks like an exception in
    the loop's body. Where an early end is a good one, use `Progress`, which tells them apart.

    Raises what `Progress` raises, and SynchronousOnlyOperation in a running event loop.
    """
    check_no_loop("track()", "async for row in atrack()")
    iterator = iter(rows)
    if total is None and isinstance(rows, Sized):
        total = len(rows)
    return _track(iterator, Progress(to, label=label, total=total, id=id, interval=interval))


def _track(rows: Iterator[_Row], progress: Progress) -> Generator[_Row, None, None]:
    with progress:
        for row in rows:
            yield row
            progress.advance()


def atrack(
    rows: Iterable[_Row] | AsyncIterable[_Row],
    *,
    to: Recipients,
    label: str | Promise = "",
    total: int | None = None,
    id: str | None = None,  # noqa: A002
    interval: float = INTERVAL,
) -> AsyncGenerator[_Row, None]:
    """Go through rows in a coroutine's loop, and send how far it is.

    The rows may be asynchronous or not. Where they are, as those of a QuerySet, their length is not asked
    for: give a total. All else is as with `track`; after an early end the event leaves a little later.
    """
    iterator: AsyncIterator[_Row]
    if isinstance(rows, AsyncIterable):
        iterator = aiter(rows)
    else:
        iterator = _go_through(iter(rows))
        if total is None and isinstance(rows, Sized):
            total = len(rows)
    return _atrack(iterator, Progress(to, label=label, total=total, id=id, interval=interval))


async def _go_through(rows: Iterator[_Row]) -> AsyncIterator[_Row]:
    for row in rows:
        yield row


async def _atrack(rows: AsyncIterator[_Row], progress: Progress) -> AsyncGenerator[_Row, None]:
    async with progress:
        async for row in rows:
            yield row
            await progress.aadvance()
