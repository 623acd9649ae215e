"""The outbox: events that are written in their senders' transactions, and so share their fate.

After the commit each is appended, in one transaction with its removal here: once, whoever does it. What a
process leaves that died in between is swept by any other.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from django.db import connections

from django_sse.exceptions import EventError, HistoryError
from django_sse.history.database.line import Line, UndoError
from django_sse.history.database.log import SECOND, Keys, Log
from django_sse.models import Outbox as Row
from django_sse.positions import Entry
from django_sse.wire import Event

logger = logging.getLogger(__name__)

#: Seconds that an event is left to its own process.
_GRACE: Final = 5.0
#: Rows that are looked for at once, and failures after which a sweep ends.
_SLICE: Final = 100
_MAX_FAILURES: Final = 3
#: Topics of a row: all of them are appended in one transaction, which must end within the timeout.
_TOPICS_AT_ONCE: Final = 100
_FIND: Final = "SELECT id FROM django_sse_outbox WHERE time < %s AND id > %s ORDER BY id LIMIT %s"


class Outbox:
    """The outbox of one history; ``line`` returns the line that writes."""

    def __init__(self, using: str, log: Log, line: Callable[[], Line]) -> None:
        self.using = using
        self._log = log
        self._line = line

    def store(
        self,
        topics: Sequence[str],
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Sequence[int]:
        """Write an event in the transaction of the caller, and return the numbers of its rows."""
        keys = Keys.of(idempotency_key, key, version)._asdict()
        # Everybody takes the locks of several topics in one order.
        rest, numbers = iter(sorted(topics)), list[int]()
        while some := tuple(islice(rest, _TOPICS_AT_ONCE)):
            row = Row(
                time=time.time_ns() // 1000,
                topics=json.dumps(some).encode(),
                name=event.name.encode(),
                text=event.text.encode(),
                **keys,
            )
            # Without signals: a project's receiver for every model might send an event for it.
            Row.objects.using(self.using).bulk_create([row])
            numbers.append(row.pk or self._last_number())
        return numbers

    def discard(self, numbers: Sequence[int]) -> None:
        """Remove rows in the transaction of the caller, because a later event stands for theirs."""
        Row.objects.using(self.using).filter(pk__in=numbers)._raw_delete(self.using)  # noqa: SLF001

    def _last_number(self) -> int:
        with connections[self.using].cursor() as cursor:
            cursor.execute("SELECT LAST_INSERT_ID()")  # MySQL does not return it
            number: int = cursor.fetchone()[0]
            return number

    def deliver(self, numbers: Sequence[int]) -> Sequence[Entry]:
        """Append an event whose transaction is committed, as far as nobody did; return what was appended."""
        line = self._line()
        return [
            entry
            for number in numbers
            for entry in line.ask(partial(self._deliver, number), begin=self._log.begin)
        ]

    def sweep(self) -> Sequence[Entry]:
        """Append what was left when its processes died; return what was appended."""
        entries, last, failures = list[Entry](), 0, 0
        while numbers := self._line().ask(partial(self._left, last)):
            for number in numbers:
                try:
                    entries += self.deliver([number])
                except HistoryError as error:
                    failures += 1
                    if failures >= _MAX_FAILURES:
                        raise  # that looks as if none could be delivered
                    logger.warning("An event stays in the outbox: %s", error)
            last = numbers[-1]
        return entries

    async def asweep(self) -> Sequence[Entry]:
        """Do what `sweep` does."""
        return await asyncio.to_thread(self.sweep)

    @staticmethod
    def _left(last: int, cursor: Any) -> list[int]:
        cursor.execute(_FIND, (time.time_ns() // 1000 - round(_GRACE * SECOND), last, _SLICE))
        return [number for (number,) in cursor.fetchall()]

    def _deliver(self, number: int, cursor: Any) -> list[Entry]:
        cursor.execute(self._log.sql.outbox, (number,))
        if (row := cursor.fetchone()) is None:
            raise UndoError([])  # somebody else has appended it
        topics, name, text, *keys = row
        cursor.execute("DELETE FROM django_sse_outbox WHERE id = %s", (number,))
        try:
            event = Event(name=bytes(name).decode(), text=bytes(text).decode())
            names = [str(topic) for topic in json.loads(bytes(topics))]
        except (TypeError, ValueError, EventError) as error:
            logger.error("An event of the outbox is damaged: %s", type(error).__name__)  # noqa: TRY400
            return []
        entries = []
        for topic in names:
            cursor.execute("SAVEPOINT topic")
            try:
                entries.append(self._log.append_now(cursor, topic, event, Keys(*keys)))
            except UndoError:  # its version is stale, or its idempotency key known: not in this topic
                cursor.execute("ROLLBACK TO SAVEPOINT topic")
            cursor.execute("RELEASE SAVEPOINT topic")
        return entries
