"""The outbox: events that are written in their senders' transactions, and so share their fate.

After the commit each is appended, in one transaction with its removal here: once, whoever does it. What a
process leaves that died in between is swept by any other.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from django_sse.exceptions import EventError
from django_sse.history.database.line import Line, UndoError
from django_sse.history.database.log import SECOND, Keys, Log
from django_sse.models import Outbox as Row
from django_sse.positions import Entry
from django_sse.wire import Event

logger = logging.getLogger(__name__)

#: Seconds that an event is left to its own process.
_GRACE: Final = 5.0
#: Events that are swept at once.
_SLICE: Final = 100
_FIND: Final = "SELECT id FROM django_sse_outbox WHERE time < %s ORDER BY id LIMIT %s"


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
    ) -> int:
        """Write an event in the transaction of the caller, and return its number."""
        row = Row.objects.using(self.using).create(
            time=time.time_ns() // 1000,
            # Everybody takes the locks of several topics in one order.
            topics=json.dumps(sorted(topics)).encode(),
            name=event.name.encode(),
            text=event.text.encode(),
            **Keys.of(idempotency_key, key, version)._asdict(),
        )
        return row.pk

    def discard(self, number: int) -> None:
        """Remove an event in the transaction of the caller, because a later one stands for it."""
        Row.objects.using(self.using).filter(pk=number).delete()

    def deliver(self, number: int) -> Sequence[Entry]:
        """Append an event whose transaction is committed, unless that was done; return what was appended."""
        return self._line().ask(partial(self._deliver, number), begin=self._log.begin)

    def sweep(self) -> Sequence[Entry]:
        """Append a bounded number of events that were left when their processes died."""
        return [entry for number in self._line().ask(self._left) for entry in self.deliver(number)]

    async def asweep(self) -> Sequence[Entry]:
        """Do what `sweep` does."""
        line, entries = self._line(), list[Entry]()
        for number in await line.aask(self._left):
            entries += await line.aask(partial(self._deliver, number), begin=self._log.begin)
        return entries

    @staticmethod
    def _left(cursor: Any) -> list[int]:
        cursor.execute(_FIND, (time.time_ns() // 1000 - round(_GRACE * SECOND), _SLICE))
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
        return entries
