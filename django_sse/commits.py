"""What waits for a transaction's commit.

The events of one row are merged: of those that survive the savepoints of their transaction the last is sent,
at its end. Django's list of callbacks tells which survive: it grows, and a rollback cuts its end off.
"""

import logging
from collections.abc import Callable, Hashable
from typing import Any

from django.db import connections

from django_sse.wire import Event

logger = logging.getLogger(__name__)


class Pending:
    """An event that waits for a commit, as the callback that sends it."""

    def __init__(
        self, topics: tuple[str, ...], event: Event, send: Callable[[], None], *, number: int | None = None
    ) -> None:
        self.topics = topics
        self.event = event
        #: In the outbox, where it was written there.
        self.number = number
        self.called = False
        self.__qualname__ = "send_event"  # Django 5.2 asks a robust callback that fails for it
        self._send = send

    def __call__(self) -> None:
        """Send it; whatever fails is logged."""
        self.called = True
        try:
            self._send()
        except Exception:
            # Also what no history should raise: the work is done, the request must not fail for its event.
            logger.exception("An event was not sent")


class RowPending:
    """What is to be told of a row, as far as its transaction has come; a callback that comes to the commit.

    ``change`` is what happened to the row since the transaction began, ``pending`` its event; both are None
    where the row is as if it had never been, or nobody is told.
    """

    def __init__(self, row: Hashable, change: str | None, pending: Pending | None) -> None:
        self.row = row
        self.change = change
        self.pending = pending
        self.batch: _Batch | None = None
        self.called = False
        self.__qualname__ = "send_event"

    def __call__(self) -> None:
        """Survive."""
        self.called = True
        if self.batch is not None:
            self.batch.survivors.pop(self.row, None)  # the last place counts
            self.batch.survivors[self.row] = self


class _Batch:
    """The row events of one transaction."""

    def __init__(self) -> None:
        self.survivors: dict[Hashable, RowPending] = {}
        self.flush = _Flush(self)
        #: In order: where each stands in Django's list, and what stood for its row before.
        self._journal: list[tuple[int, RowPending, RowPending | None]] = []
        self._latest: dict[Hashable, RowPending] = {}

    def latest(self, row: Hashable, callbacks: list[Any]) -> RowPending | None:
        """Return the last event of a row that was not rolled back."""
        while self._journal:
            index, event, before = self._journal[-1]
            if index < len(callbacks) and callbacks[index][1] is event:
                break
            self._journal.pop()
            if before is None:
                del self._latest[event.row]
            else:
                self._latest[event.row] = before
        return self._latest.get(row)

    def add(self, event: RowPending, index: int) -> None:
        """Take the next event, which stands there in Django's list."""
        event.batch = self
        self._journal.append((index, event, self._latest.get(event.row)))
        self._latest[event.row] = event


class _Flush:
    """The callback behind the last event of a batch: it sends the survivors."""

    def __init__(self, batch: _Batch) -> None:
        self.batch = batch
        self.__qualname__ = "send_event"

    def __call__(self) -> None:
        """Send what has survived, unless a later one will."""
        if self.batch.flush is not self:
            return
        survivors, self.batch.survivors = self.batch.survivors, {}
        for event in survivors.values():
            if event.pending is not None:
                event.pending()


def is_in_transaction(using: str) -> bool:
    """Tell whether this thread has begun a transaction of a database; opens no connection."""
    connection = connections[using]
    return connection.connection is not None and (connection.in_atomic_block or not connection.autocommit)


def after_commit(pending: Pending, using: str) -> None:
    """Send an event after the commit, at once outside transactions."""
    if is_in_transaction(using):
        connections[using].on_commit(pending, robust=True)
    else:
        # No connection, or none in a transaction; asking on_commit() would open one for nothing.
        pending()


def latest_of(row: Hashable, using: str) -> RowPending | None:
    """Return what this transaction tells of a row so far."""
    callbacks = connections[using].run_on_commit
    batch = _batch(callbacks)
    latest = None if batch is None else batch.latest(row, callbacks)
    # A test that lets callbacks run in the middle of its transaction has told of the row.
    return None if latest is None or latest.called else latest


def after_commit_of_row(event: RowPending, using: str) -> None:
    """Tell of a row after the commit, in place of what the same transaction has told of it before."""
    connection = connections[using]
    callbacks: list[Any] = connection.run_on_commit
    batch = _batch(callbacks) or _Batch()
    batch.latest(event.row, callbacks)
    batch.add(event, len(callbacks))
    connection.on_commit(event, robust=True)
    # Of no savepoint, so that it is there as long as any event before it; entries are never moved, for
    # Django's TestCase.captureOnCommitCallbacks() counts them.
    batch.flush = _Flush(batch)
    callbacks.append((set(), batch.flush, True))


def waiting(callbacks: list[Any]) -> list[Pending]:
    """Return what would be sent if the callbacks of a transaction ran now, in that order."""
    found: dict[Hashable, Pending | None] = {}
    for _, callback, *_ in callbacks:
        if isinstance(callback, Pending) and not callback.called:
            found[callback] = callback
        elif isinstance(callback, RowPending) and not callback.called:
            found.pop(callback.row, None)
            found[callback.row] = callback.pending
    return [pending for pending in found.values() if pending is not None]


def _batch(callbacks: list[Any]) -> _Batch | None:
    return next((one.batch for _, one, *_ in reversed(callbacks) if isinstance(one, _Flush)), None)
