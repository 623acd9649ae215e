"""The history whose entries are in a database."""

import asyncio
import logging
import math
import random
import weakref
from collections.abc import Callable, Collection
from typing import ClassVar, Final

from django.db import connections

from django_sse.exceptions import HistoryError
from django_sse.forks import after_fork
from django_sse.history.base import BaseHistory, Gone, Page, check_limits
from django_sse.history.database.line import Line, make_connection
from django_sse.history.database.log import SECOND, Log
from django_sse.history.database.notifications import can_listen, listen
from django_sse.history.database.outbox import Outbox
from django_sse.history.database.statements import Statements
from django_sse.positions import Entry, Position
from django_sse.wire import Event

logger = logging.getLogger(__name__)

#: Seconds between two times that a process trims.
_TRIM: Final = 60.0
#: Seconds between two times that a process looks for events that others have left.
_SWEEP: Final = 5.0


class DatabaseHistory(BaseHistory):
    """Entries in the database ``using``, limited by number and age.

    ``length`` entries bound what of each topic can be read, ``age`` seconds what is kept; its newest entry
    outlives both. ``key_age`` seconds bound what is remembered of versions and idempotency keys. ``timeout``
    seconds bound connecting, and waiting for an answer.

    It has connections of its own, so what it stores is there whatever becomes of its caller's transaction.
    With SQLite an append in one is refused: it would wait for its own caller.
    """

    shared: ClassVar[bool] = True

    def __init__(
        self,
        *,
        using: str = "default",
        length: int = 10_000,
        age: float = 86_400.0,
        key_age: float = 86_400.0,
        timeout: float = 2.0,
    ) -> None:
        check_limits(length=length, age=age, key_age=key_age, timeout=timeout)
        if using not in connections:
            msg = f"using is {using!r}: DATABASES has {', '.join(connections)}"
            raise ValueError(msg)
        self.using = using
        self._timeout = timeout
        connection = make_connection(using, timeout=timeout)  # of which no use is made
        self._vendor = connection.vendor
        self._log = Log(
            Statements(self._vendor, timeout=timeout),
            length=length,
            age=round(age * SECOND),
            key_age=round(key_age * SECOND),
        )
        self._can_listen = can_listen(connection)
        self.check_every = math.inf if self._can_listen else 1.0
        self._begin()
        self.outbox: Outbox = Outbox(using, self._log, lambda: self._writing)
        _histories.add(self)

    def _begin(self) -> None:
        # What is read must not wait for a lock that something written waits for.
        self._reading = Line(self.using, timeout=self._timeout)
        self._writing = Line(self.using, timeout=self._timeout)
        self._trimming_line = Line(self.using, timeout=self._timeout)

    def close(self) -> None:
        """Close its connections; the next call opens new ones."""
        self._reading.close()
        self._writing.close()
        self._trimming_line.close()

    # -- the contract ------------------------------------------------------------------------------

    def append(
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        """Append an event and return its entry, or None where its version is stale."""
        if self._vendor == "sqlite" and connections[self.using].in_atomic_block:
            msg = (
                f"an event is to be stored in the middle of a transaction of database {self.using!r}, which "
                "has one lock for all: send it with on_commit=True, or outside"
            )
            raise HistoryError(msg)
        work = self._log.append(topic, event, made=idempotency_key, key=key, version=version)
        return self._writing.ask(work, begin=self._log.begin)

    async def aappend(  # noqa: D102
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        work = self._log.append(topic, event, made=idempotency_key, key=key, version=version)
        return await self._writing.aask(work, begin=self._log.begin)

    async def read(self, topic: str, position: Position, *, limit: int) -> Page | Gone:
        """Return at most ``limit`` entries after a position, fewer where they are large, or Gone."""
        return await self._reading.aask(
            lambda cursor: self._log.read(cursor, topic, position, limit), begin=self._log.begin_reading
        )

    def tail(self, topics: Collection[str]) -> dict[str, Position]:
        """Return the newest position of each topic."""
        return self._reading.ask(
            lambda cursor: self._log.tails(cursor, topics), begin=self._log.begin_reading
        )

    async def atail(self, topics: Collection[str]) -> dict[str, Position]:  # noqa: D102
        return await self._reading.aask(
            lambda cursor: self._log.tails(cursor, topics), begin=self._log.begin_reading
        )

    def at(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:
        """Return the positions as they stood ``ago`` seconds before now."""
        return self._reading.ask(
            lambda cursor: self._log.at(cursor, topics, round(ago * SECOND)), begin=self._log.begin_reading
        )

    async def aat(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:  # noqa: D102
        return await self._reading.aask(
            lambda cursor: self._log.at(cursor, topics, round(ago * SECOND)), begin=self._log.begin_reading
        )

    def next_version(self) -> int:
        """Return a number above all that were returned before."""
        connection = connections[self.using]
        if self._vendor == "sqlite" and connection.in_atomic_block:
            # The caller's transaction has the one lock there is, and another connection would wait for it.
            with connection.cursor() as cursor:
                return self._log.draw(cursor)
        return self._writing.ask(self._log.draw, begin=self._log.begin)

    async def anext_version(self) -> int:  # noqa: D102
        return await self._writing.aask(self._log.draw, begin=self._log.begin)

    async def tend(self, hear: Callable[[str, Position], None]) -> None:
        """Tell of topics' new positions where the database is PostgreSQL; trim, a slice each minute."""
        async with asyncio.TaskGroup() as tasks:
            if self._can_listen:
                tasks.create_task(listen(make_connection(self.using, timeout=self._timeout), hear))
            tasks.create_task(self._trimming())
            tasks.create_task(self._sweeping(hear))

    def trim(self) -> int:
        """Remove a bounded part of what is no longer promised; return how many rows that were."""
        return self._trimming_line.ask(self._log.trim)

    async def _sweeping(self, hear: Callable[[str, Position], None]) -> None:
        while True:
            await asyncio.sleep(_SWEEP * random.uniform(0.5, 1.5))  # noqa: S311  (not a secret)
            try:
                entries = await self.outbox.asweep()
            except Exception as error:  # noqa: BLE001  (likewise)
                logger.warning("The outbox was not swept: %s", error)
            else:
                for entry in entries:
                    hear(entry.topic, entry.position)

    async def _trimming(self) -> None:
        while True:
            # Spread, so that processes do not meet at the same rows.
            await asyncio.sleep(_TRIM * random.uniform(0.5, 1.5))  # noqa: S311  (not a secret)
            try:
                await self._trimming_line.aask(self._log.trim)
            except Exception as error:  # noqa: BLE001  (whatever fails, it goes on)
                logger.warning("Old entries were not removed: %s", error)


_histories: "weakref.WeakSet[DatabaseHistory]" = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    # The parent's threads do not run here, and its connections are kept untouched: they are the parent's.
    for history in _histories:
        _inherited.append((history._reading, history._writing, history._trimming_line))  # noqa: SLF001
        history._begin()  # noqa: SLF001


after_fork(_after_fork)
