"""What waits for a commit: single events, and the changes of rows, which one transaction merges.

Each change registers a callback of its own, so that a savepoint that is rolled back takes along what it must.
Behind it stands a `Flush`, which no savepoint takes along: the last one of a transaction sends what is left.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from django.db import connections

from django_sse.counters import published
from django_sse.wire import Event

logger = logging.getLogger(__name__)


class Pending:
    """An event that waits for a commit, as the callback that sends it."""

    def __init__(
        self, topics: tuple[str, ...], event: Event, send: Callable[[], None], *, numbers: Sequence[int] = ()
    ) -> None:
        self.topics = topics
        self.event = event
        #: Of its rows in the outbox, where it was written there.
        self.numbers = numbers
        self.called = False
        self.__qualname__ = "send_event"  # Django 5.2 asks a robust callback that fails for it
        self.send = send

    def __call__(self) -> None:
        """Send it; whatever fails is logged."""
        self.called = True
        try:
            self.send()
        except Exception:
            # Also what no history should raise: the work is done, the request must not fail for its event.
            published.note_failed()
            logger.exception("An event was not sent")


class Change:
    """A write of a row, as the callback that tells that it was not rolled back."""

    def __init__(self, batch: "Batch", row: Hashable, *, existed: bool, pending: Pending | None) -> None:
        self.batch = batch
        self.row = row
        #: Whether the row was there before the transaction.
        self.existed = existed
        #: What it tells; None where nobody is to hear of it.
        self.pending = pending

    def __call__(self) -> None:
        """Be among what is sent."""
        self.batch.take(self)


class Batch:
    """The changes of one transaction."""

    def __init__(self, transaction: object) -> None:
        self.transaction = transaction
        #: The last one, which alone sends.
        self.flush: Flush | None = None
        #: Each change with its place among the callbacks, by time; and those of each row.
        self._journal: list[tuple[Change, int]] = []
        self._by_row: dict[Hashable, list[Change]] = {}
        self._taken: dict[Hashable, Change] = {}

    def last(self, row: Hashable, callbacks: list[Any]) -> Change | None:
        """Return a row's last change that was not rolled back."""
        # A rollback takes away what was registered last, so looking from the end meets all of it.
        while self._journal:
            change, index = self._journal[-1]
            if index < len(callbacks) and callbacks[index][1] is change:
                break
            self._journal.pop()
            self._by_row[change.row].pop()
        changes = self._by_row.get(row)
        return changes[-1] if changes else None

    def note(self, change: Change, index: int) -> None:
        """Remember a change that was registered."""
        self._journal.append((change, index))
        self._by_row.setdefault(change.row, []).append(change)

    def take(self, change: Change) -> None:
        """Take a change that was committed; it replaces those of its row before it, and stands last."""
        self._taken.pop(change.row, None)
        self._taken[change.row] = change

    def send(self) -> None:
        """Send what was taken, and have nothing more to do with what comes."""
        self.flush = None
        taken, self._taken, self._journal, self._by_row = self._taken, {}, [], {}
        for change in taken.values():
            if change.pending is not None:
                change.pending()


class Flush:
    """Sends a batch, where it stands behind the last of its changes."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @property
    def is_last(self) -> bool:
        """Whether no later one has taken its place, and nothing was sent yet."""
        return self.batch.flush is self

    def __call__(self) -> None:
        """Send the batch, or leave that to the last one."""
        if self.is_last:
            self.batch.send()


def is_in_transaction(using: str) -> bool:
    """Tell whether what is sent now must wait for a commit; opens no connection."""
    connection = connections[using]
    return connection.connection is not None and (connection.in_atomic_block or not connection.autocommit)


def after_commit(pending: Pending, using: str) -> None:
    """Send an event after the commit, at once outside transactions."""
    if is_in_transaction(using):
        connections[using].on_commit(pending, robust=True)
    else:
        # No connection, or none in a transaction; asking on_commit() would open one for nothing.
        pending()


def last_change(row: Hashable, using: str) -> Change | None:
    """Return what this transaction has done to a row last, None where nothing."""
    connection: Any = connections[using]
    batch = _find(connection)
    return None if batch is None else batch.last(row, connection.run_on_commit)


def change_after_commit(row: Hashable, *, existed: bool, pending: Pending | None, using: str) -> None:
    """Tell a change after the commit, in place of what this transaction had to tell of the row before."""
    connection: Any = connections[using]
    batch = _find(connection) or Batch(_transaction_of(connection))
    batch.last(row, connection.run_on_commit)  # what was rolled back must not stand below the new one
    change = Change(batch, row, existed=existed, pending=pending)
    connection.on_commit(change, robust=True)
    batch.note(change, len(connection.run_on_commit) - 1)
    batch.flush = Flush(batch)
    # Not by on_commit(): without savepoints of its own it survives them, and goes with the transaction alone.
    connection.run_on_commit.append((set(), batch.flush, True))


def sendings(callbacks: Iterable[object]) -> Iterator[Pending]:
    """Return what these callbacks would send, in order."""
    changes: dict[Batch, dict[Hashable, Change]] = {}
    for callback in callbacks:
        if isinstance(callback, Pending) and not callback.called:
            yield callback
        elif isinstance(callback, Change):
            rows = changes.setdefault(callback.batch, {})
            rows.pop(callback.row, None)
            rows[callback.row] = callback
        elif isinstance(callback, Flush) and callback.is_last:
            for change in changes.pop(callback.batch, {}).values():
                if change.pending is not None and not change.pending.called:
                    yield change.pending


def _find(connection: Any) -> Batch | None:
    """Return the batch of the transaction that a connection is in."""
    for _, callback, _ in reversed(connection.run_on_commit):
        if isinstance(callback, Flush):
            batch = callback.batch
            here = _transaction_of(connection)
            return batch if here is not None and callback.is_last and batch.transaction == here else None
    return None


def _transaction_of(connection: Any) -> object:
    """Return what stands for the transaction; None where, but for a test case, there would be none."""
    blocks, savepoints = connection.atomic_blocks, connection.savepoint_ids
    for depth, block in enumerate(blocks):
        # Django's TestCase wraps its tests in blocks of its own: what a site would do in several transactions
        # would there be one, and each update of what a test has made "created".
        if not getattr(block, "_from_testcase", False):
            outer = depth - (len(blocks) - len(savepoints))
            return block, savepoints[outer] if outer >= 0 else None
    return None
