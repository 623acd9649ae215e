"""A thread with a database connection of its own.

What is asked of it is done in turn, outside of whatever transaction its caller is in, and in time or not at
all: who does not get an answer in time is told so, and a thread that a network holds is left behind.
"""

import asyncio
import copy
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_sse.exceptions import HistoryError

#: Seconds of rest after which a connection is tried before it is used: the server may have closed it.
_REST: Final = 10.0

T = TypeVar("T")
#: What is done with a cursor.
Work = Callable[[Any], T]


class UndoError(Exception):
    """Raised by work that is to leave no trace; its answer is the value."""

    def __init__(self, value: Any = None) -> None:
        super().__init__()
        self.value = value


class _Job(NamedTuple):
    work: Work[Any]
    #: None for what needs no transaction.
    begin: str | None
    future: "Future[Any]"
    #: Until when anybody waits, and until when it may be tried again.
    deadline: float
    again_until: float


class Line:
    """One thread and its connection to the database ``using``; it begins with the first job.

    ``timeout`` seconds bound each answer, and connecting.
    """

    def __init__(self, using: str, *, timeout: float) -> None:
        self._using = using
        self._timeout = timeout
        self._lock = Lock()
        self._jobs: SimpleQueue[_Job | None] | None = None

    def ask(self, work: Work[T], *, begin: str | None = None) -> T:
        """Return what the work returns, in a transaction where ``begin`` is what begins one.

        Raises HistoryError where the database does not answer in time; whether a transaction was committed
        is not known then.
        """
        jobs, future = self._put(work, begin)
        try:
            return future.result(self._timeout)
        except TimeoutError:
            self._late(jobs, future)
        except Error as error:
            raise HistoryError(_complaint(error)) from error

    async def aask(self, work: Work[T], *, begin: str | None = None) -> T:
        """Do what `ask` does."""
        jobs, future = self._put(work, begin)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            self._late(jobs, future)
        except Error as error:
            raise HistoryError(_complaint(error)) from error

    def close(self) -> None:
        """End the thread when it has done what it was asked; the next job begins another."""
        with self._lock:
            if self._jobs is not None:
                self._jobs.put(None)
                self._jobs = None

    def _put(self, work: Work[T], begin: str | None) -> "tuple[SimpleQueue[_Job | None], Future[T]]":
        future: Future[T] = Future()
        with self._lock:
            if (jobs := self._jobs) is None:
                jobs = SimpleQueue()
                words = (jobs, self._using, self._timeout)
                try:
                    Thread(target=_serve, args=words, name="django_sse history", daemon=True).start()
                except RuntimeError as error:
                    raise HistoryError(f"the history has no thread: {error}") from error
                self._jobs = jobs
            now = time.monotonic()
            jobs.put(_Job(work, begin, future, now + self._timeout, now + self._timeout / 2))
        return jobs, future

    def _late(self, jobs: "SimpleQueue[_Job | None]", future: "Future[Any]") -> NoReturn:
        future.cancel()
        with self._lock:
            if self._jobs is jobs:  # something hangs there: whoever comes gets another thread
                jobs.put(None)
                self._jobs = None
        msg = f"the history in database {self._using!r} does not answer within {self._timeout} s"
        raise HistoryError(msg)


def _complaint(error: Exception) -> str:
    return (
        f"the history in the database does not answer: {type(error).__name__}: {str(error).strip()} "
        "(are its tables there? `manage.py migrate` makes them)"
    )


def _serve(jobs: "SimpleQueue[_Job | None]", using: str, timeout: float) -> None:
    connection = make_connection(using, timeout=timeout)
    rested = time.monotonic()
    while (job := jobs.get()) is not None:
        if not job.future.set_running_or_notify_cancel():
            continue
        try:
            if time.monotonic() - rested > _REST and connection.connection and not connection.is_usable():
                connection.close()
            answer = _do(connection, job)
        except BaseException as error:  # noqa: BLE001  (whoever asked raises it)
            job.future.set_exception(error)
        else:
            job.future.set_result(answer)
        rested = time.monotonic()
        del job  # or an event would live until the next
    connection.close()


def _do(connection: BaseDatabaseWrapper, job: _Job) -> Any:
    """Do one job; once more where the database failed before its commit, and there is time."""
    try:
        return _transact(connection, job)
    except (OperationalError, InterfaceError):  # restarted, or a deadlock: nothing of it was kept
        if time.monotonic() >= job.again_until:
            raise
        return _transact(connection, job)


def _transact(connection: BaseDatabaseWrapper, job: _Job) -> Any:
    try:
        with connection.cursor() as cursor:
            if job.begin is None:
                return job.work(cursor)
            cursor.execute(job.begin)
            try:
                answer = job.work(cursor)
            except UndoError as undo:
                cursor.execute("ROLLBACK")
                return undo.value
            _commit(cursor, job.deadline)
            return answer
    except BaseException:
        connection.close()  # with whatever was begun in it
        raise


def _commit(cursor: Any, deadline: float) -> None:
    if time.monotonic() >= deadline:
        msg = "nobody waits for it any more: an event that is said to be lost must not come"
        raise OperationalError(msg)
    try:
        cursor.execute("COMMIT")
    except Error as error:
        msg = f"whether an event was stored is not known: {_complaint(error)}"
        raise HistoryError(msg) from error


def make_connection(using: str, *, timeout: float) -> BaseDatabaseWrapper:
    """Return a new connection that nobody shares, with the database's settings as far as they fit."""
    connection = connections.create_connection(using)
    settings = connection.settings_dict = copy.deepcopy(connection.settings_dict)
    settings |= {"ATOMIC_REQUESTS": False, "AUTOCOMMIT": True, "CONN_MAX_AGE": None}
    options = settings["OPTIONS"]
    options.pop("pool", None)
    # Each statement must see what was committed before it, whatever else the project reads by.
    options.pop("isolation_level", None)
    if connection.vendor == "sqlite":
        # So that it is the database which says that it is locked.
        options["timeout"] = min(options.get("timeout", timeout), timeout * 0.9)
    for name, value in _patience(connection.vendor, math.ceil(timeout)).items():
        options.setdefault(name, value)
    connection.queries_log = deque(maxlen=0)  # where DEBUG is on, it would keep the events
    return connection


def _patience(vendor: str, seconds: int) -> dict[str, Any]:
    if vendor == "postgresql":
        return {"connect_timeout": seconds, "tcp_user_timeout": seconds * 1000}
    if vendor == "mysql":
        return {
            "connect_timeout": seconds,
            "read_timeout": seconds,
            "write_timeout": seconds,
            "init_command": f"SET SESSION innodb_lock_wait_timeout = {seconds}",
        }
    return {}
