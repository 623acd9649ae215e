"""The log of each topic, as the history's threads read and write it: all functions take a cursor."""

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, Self

from django_sse.history.base import Gone, Page, chain, draw_tag
from django_sse.history.database.entries import (
    check_version,
    decode_entries,
    draw_secret,
    encode_notice,
    genesis_of,
    kept_key,
    topic_key,
    topic_name,
)
from django_sse.history.database.line import UndoError
from django_sse.history.database.statements import Statements
from django_sse.positions import Entry, Position
from django_sse.topics import CONTROL_TOPIC
from django_sse.wire import Event

#: In microseconds, which is what all times here are given in.
SECOND: Final = 1_000_000
# Topics in one statement: databases limit how many values one may have.
_TOPICS_AT_ONCE: Final = 500
# A page of entries ends after so many bytes: a hundred events of 1 MB would not come within the timeout.
_PAGE_BYTES: Final = 1024 * 1024
# Rows that are removed at once: whoever waits for their locks waits for milliseconds.
_SLICE: Final = 1000


class Keys(NamedTuple):
    """What an append is known by, as it is remembered."""

    made: str | None
    key: str | None
    version: int | None

    @classmethod
    def of(cls, made: str | None, key: str | None, version: int | None) -> Self:
        """Return the keys as they are remembered; raise ValueError for a version that no column takes."""
        kept = cls(None if made is None else kept_key(b"i", made), None, None)
        if key is None or version is None:
            return kept
        return kept._replace(key=kept_key(b"v", key), version=check_version(key, version))


class Log:
    """Topics, entries and keys; for its limits see `DatabaseHistory`."""

    def __init__(self, sql: Statements, *, length: int, age: int, key_age: int) -> None:
        #: What begins a transaction that writes; and one that reads, where that is worth one.
        self.begin, self.begin_reading = sql.begin, sql.begin_reading
        self.sql = sql
        self._length = length
        self._age = age
        self._key_age = key_age

    def append(
        self, topic: str, event: Event, *, made: str | None, key: str | None, version: int | None
    ) -> Callable[[Any], Entry | None]:
        """Return what appends an event, in a transaction of its own."""
        keys = Keys.of(made, key, version)
        return lambda cursor: self.append_now(cursor, topic, event, keys)

    def append_now(self, cursor: Any, topic: str, event: Event, keys: Keys) -> Entry:
        """Append an event; raise UndoError where its keys are known."""
        tag, name = draw_tag(), topic_key(topic)
        offset, previous, time = self.sql.run(
            cursor, self.sql.advance, topic=name, name=topic_name(topic), tag=tag
        )
        if keys.made is not None or keys.key is not None:
            self._remember(cursor, topic, keys, offset, time)
        if offset == 1:
            previous = genesis_of(topic, self._rows(cursor, [name])[0][0]).tag
        entry = Entry(topic=topic, offset=offset, tag=tag, previous=previous, time=time / SECOND, event=event)
        values = {
            "topic": name,
            "offset": offset,
            "tag": tag,
            "previous": previous,
            "time": time,
            "name": event.name.encode(),
            "text": event.text.encode(),
            "notice": encode_notice(entry),
        }
        cursor.execute(self.sql.insert, values)
        return entry

    def _remember(self, cursor: Any, topic: str, keys: Keys, offset: int, time: int) -> None:
        """Remember what an append is known by; undo it where that is known already."""
        name, now = topic_key(topic), time
        cursor.execute(self.sql.keys, (name, keys.made or "", keys.key or "", now - self._key_age))
        known: dict[str | None, int] = dict(cursor.fetchall())
        if keys.made in known:
            raise UndoError(self._entry(cursor, topic, known[keys.made], tail=offset - 1))
        if keys.version is not None and keys.key in known and known[keys.key] >= keys.version:
            raise UndoError
        for one, value in ((keys.made, offset), (keys.key, keys.version)):
            if one is not None:
                cursor.execute(self.sql.forget, (name, one))
                cursor.execute(self.sql.remember, (name, one, value, now))

    def _entry(self, cursor: Any, topic: str, offset: int, *, tail: int) -> Entry | None:
        if offset <= tail - self._length:
            return None  # what was trimmed must not live on beside the log
        cursor.execute(self.sql.entry, (topic_key(topic), offset))
        return next(decode_entries(topic, cursor.fetchall()), None)

    def read(self, cursor: Any, topic: str, position: Position, limit: int) -> Page | Gone:
        """Return at most so many entries after a position, or Gone."""
        tail = self.tails(cursor, [topic])[topic]
        if position.offset < tail.offset - self._length:
            return Gone(tail=tail)
        values = {"topic": topic_key(topic), "offset": position.offset, "limit": limit + 2}
        cursor.execute(self.sql.read, values | {"size": _PAGE_BYTES})
        rows = cursor.fetchall()
        is_there = bool(rows) and rows[0][:2] == (position.offset, position.tag)
        # Where it was trimmed, the entry behind it still names it: then nothing is missing.
        if not is_there and not rows and position != tail:
            return Gone(tail=tail)
        after = rows[1:] if is_there else rows
        more = len(after) > limit or (bool(after) and after[-1][0] < tail.offset)
        return chain(position, decode_entries(topic, after[:limit]), tail=tail, more=more)

    def tails(self, cursor: Any, topics: Collection[str]) -> dict[str, Position]:
        """Return the newest position of each topic."""
        return {topic: position for topic, (position, _) in self._stand(cursor, topics)[0].items()}

    def _stand(self, cursor: Any, topics: Collection[str]) -> tuple[dict[str, tuple[Position, int]], int]:
        """Return each topic's newest position and its time, and the database's clock."""
        found: dict[str, tuple[Position, int]] = {}
        clock, rest = 0, iter(dict.fromkeys(topics))
        while some := tuple(islice(rest, _TOPICS_AT_ONCE)):
            names = {topic_key(topic): topic for topic in some}
            rows = self._rows(cursor, list(names))
            secret, clock = rows[0][:2]
            known = {
                names[name]: (Position(offset=offset, tag=tag), time)
                for _, _, name, offset, tag, time in rows
                if name is not None
            }
            found |= {topic: known.get(topic) or (genesis_of(topic, secret), 0) for topic in some}
        return found, clock

    def _rows(self, cursor: Any, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the secret, the clock, and what there is of topics, made where it is missing."""
        statement = self.sql.tails(len(names))
        values = {f"topic{index}": name for index, name in enumerate(names)} | self.sql.now()
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        if not rows:
            self.draw(cursor)
            cursor.execute(statement, values)
            rows = cursor.fetchall()
        return rows

    def at(self, cursor: Any, topics: Collection[str], ago: int) -> dict[str, Position]:
        """Return the positions as they stood a while ago."""
        stand, clock = self._stand(cursor, topics)
        then = clock - ago
        return {
            topic: position if time <= then else self._last_until(cursor, topic, then)
            for topic, (position, time) in stand.items()
        }

    def _last_until(self, cursor: Any, topic: str, then: int) -> Position:
        name = topic_key(topic)
        cursor.execute(self.sql.last_until, (name, then))
        if (row := cursor.fetchone()) is None:
            # Before the oldest. Where that is not the first, something was trimmed: a tag that never was is
            # answered by Gone.
            cursor.execute(self.sql.oldest, (name,))
            offset, previous = cursor.fetchone() or (0, 0)
            row = (offset, previous ^ 1 if offset else previous)
        return Position(offset=row[0], tag=row[1])

    def draw(self, cursor: Any) -> int:
        """Return a version above all that were drawn before; make the clock where it is missing."""
        version: int = self.sql.run(cursor, self.sql.draw, secret=draw_secret())[0]
        return version

    def trim(self, cursor: Any) -> int:
        """Remove a bounded part of what is no longer promised; return how many rows that were."""
        _, clock = self._stand(cursor, [CONTROL_TOPIC])
        count = 0
        cursor.execute(self.sql.old, (clock - self._age, _SLICE))
        slices: dict[str, int] = {}
        for topic, offset in cursor.fetchall():
            slices[topic] = max(offset, slices.get(topic, 0))
        cursor.execute(self.sql.long, (self._length, self._length, _SLICE))
        for topic, first, until in cursor.fetchall():
            slices[topic] = max(min(until, first + _SLICE - 1), slices.get(topic, 0))
        for topic, until in slices.items():
            if count < _SLICE:
                cursor.execute(self.sql.trim, (topic, until))
                count += cursor.rowcount
        return count + self._trim_keys(cursor, clock - self._key_age)

    def _trim_keys(self, cursor: Any, before: int) -> int:
        cursor.execute(self.sql.old_keys, (before, _SLICE - 1))
        last = cursor.fetchone()
        cursor.execute(self.sql.trim_keys, (before if last is None else min(before, last[0] + 1),))
        count: int = cursor.rowcount
        return count
