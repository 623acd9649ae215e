"""The SQL of the history, in the words of PostgreSQL, SQLite, and MariaDB or MySQL.

Times are microseconds since the epoch, by the clock of the database; SQLite has none of that precision, and
runs on the machine of its caller, whose clock is taken.
"""

import math
import time
from collections.abc import Sequence
from sqlite3 import sqlite_version_info
from typing import Any, Final

#: The first SQLite that returns what it wrote.
_RETURNING: Final = (3, 35)
#: The channel of PostgreSQL's NOTIFY.
CHANNEL: Final = "django_sse"
_WORDS: Final = {
    "postgresql": {
        # In one round trip. Who waited longer for a lock would keep thread and connection, for a caller that
        # has gone.
        "begin": "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = {timeout}",
        "clock": "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint",
        "greatest": "GREATEST",
        "lock": "FOR UPDATE",
        "binary": "",
    },
    "mysql": {
        "begin": "START TRANSACTION",
        "clock": "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
        "greatest": "GREATEST",
        "lock": "FOR UPDATE",
        "binary": "_binary ",
    },
    "sqlite": {
        # At once, as the first statement writes: a lock that must be raised later cannot be waited for.
        "begin": "BEGIN IMMEDIATE",
        "clock": "%(now)s",
        "greatest": "MAX",
        "lock": "",
        "binary": "",
    },
}

_ADVANCE: Final = """
INSERT INTO django_sse_topic AS t ("key", name, "offset", tag, previous, time)
VALUES (%(topic)s, %(name)s, 1, %(tag)s, 0, {clock})
ON CONFLICT ("key") DO UPDATE SET
  "offset" = t."offset" + 1, tag = excluded.tag, previous = t.tag, time = {greatest}(t.time, {clock})
RETURNING "offset", previous, time
"""
_MYSQL_ADVANCE: Final = """
INSERT INTO django_sse_topic ("key", name, "offset", tag, previous, time)
VALUES (%(topic)s, %(name)s, 1, %(tag)s, 0, {clock})
ON DUPLICATE KEY UPDATE
  "offset" = "offset" + 1, previous = tag, tag = VALUES(tag), time = GREATEST(time, {clock})
"""
_ADVANCED: Final = 'SELECT "offset", previous, time FROM django_sse_topic WHERE "key" = %(topic)s'
_DRAW: Final = """
INSERT INTO django_sse_clock AS c (id, secret, version) VALUES (1, %(secret)s, {clock})
ON CONFLICT (id) DO UPDATE SET version = {greatest}(c.version + 1, {clock})
RETURNING version
"""
_MYSQL_DRAW: Final = """
INSERT INTO django_sse_clock (id, secret, version) VALUES (1, %(secret)s, {clock})
ON DUPLICATE KEY UPDATE version = GREATEST(version + 1, {clock})
"""
_INSERT: Final = """
INSERT INTO django_sse_entry (topic, "offset", tag, previous, time, name, text)
VALUES (%(topic)s, %(offset)s, %(tag)s, %(previous)s, %(time)s, {binary}%(name)s, {binary}%(text)s)
"""
_DRAWN: Final = "SELECT version FROM django_sse_clock WHERE id = 1"
#: Told together with the entry, in the same round trip; whoever listens hears of it after the commit.
_INSERT_AND_NOTIFY: Final = f"""
WITH inserted AS ({_INSERT})
SELECT pg_notify('{CHANNEL}', %(notice)s)
"""
#: A page ends after so many bytes, with one entry at least; the column "before" counts those that precede.
_READ: Final = """
SELECT "offset", tag, previous, time, name, text FROM (
  SELECT
    e.*, SUM(CASE WHEN "offset" > %(offset)s THEN LENGTH(text) ELSE 0 END) OVER (ORDER BY "offset") AS size
  FROM (
    SELECT * FROM django_sse_entry WHERE topic = %(topic)s AND "offset" >= %(offset)s
    ORDER BY "offset" LIMIT %(limit)s
  ) AS e
) AS sized WHERE size <= %(size)s OR "offset" <= %(offset)s + 1 ORDER BY "offset"
"""
_TAILS: Final = """
SELECT c.secret, {clock}, t."key", t."offset", t.tag, t.time
FROM django_sse_clock AS c LEFT JOIN django_sse_topic AS t ON t."key" IN ({topics}) WHERE c.id = 1
"""
#: The last entry until a moment; the one below is the oldest that is left.
_LAST_UNTIL: Final = """
SELECT "offset", tag FROM django_sse_entry WHERE topic = %s AND time <= %s ORDER BY "offset" DESC LIMIT 1
"""
_OLDEST: Final = """
SELECT "offset" - 1, previous FROM django_sse_entry WHERE topic = %s ORDER BY "offset" LIMIT 1
"""
_ENTRY: Final = """
SELECT "offset", tag, previous, time, name, text FROM django_sse_entry WHERE topic = %s AND "offset" = %s
"""
_KEYS: Final = "SELECT name, value FROM django_sse_key WHERE topic = %s AND name IN (%s, %s) AND time >= %s"
_FORGET: Final = "DELETE FROM django_sse_key WHERE topic = %s AND name = %s"
_REMEMBER: Final = "INSERT INTO django_sse_key (topic, name, value, time) VALUES (%s, %s, %s, %s)"
_OUTBOX: Final = """
SELECT topics, name, text, made, "key", version FROM django_sse_outbox WHERE id = %s {lock}
"""
#: Entries that are too old, except each topic's newest; what is behind a topic's length; the same of keys.
_OLD: Final = """
SELECT e.topic, e."offset" FROM django_sse_entry AS e JOIN django_sse_topic AS t ON t."key" = e.topic
WHERE e.time < %s AND e."offset" < t."offset" ORDER BY e.time LIMIT %s
"""
_LONG: Final = """
SELECT "key", oldest, until FROM (
  SELECT "key", "offset" - %s AS until,
    (SELECT MIN(e."offset") FROM django_sse_entry AS e WHERE e.topic = t."key") AS oldest
  FROM django_sse_topic AS t WHERE "offset" > %s
) AS long_ones WHERE oldest <= until LIMIT %s
"""
_TRIM: Final = 'DELETE FROM django_sse_entry WHERE topic = %s AND "offset" <= %s'
_OLD_KEYS: Final = "SELECT time FROM django_sse_key WHERE time < %s ORDER BY time LIMIT 1 OFFSET %s"
_TRIM_KEYS: Final = "DELETE FROM django_sse_key WHERE time < %s"


class Statements:
    """The statements in the words of one vendor; raises ValueError where this package does not know it."""

    def __init__(self, vendor: str, *, timeout: float) -> None:
        if vendor not in _WORDS:
            msg = f"its database is of {vendor}: use PostgreSQL, MariaDB, MySQL or SQLite"
            raise ValueError(msg)
        self._vendor = vendor
        self._words = words = _WORDS[vendor]
        #: What begins a transaction that writes; and one that reads, where that is worth one.
        self.begin = words["begin"].replace("{timeout}", str(math.ceil(timeout * 900)))
        self.begin_reading = self.begin if vendor == "postgresql" else None
        is_mysql = vendor == "mysql"
        upsert, draw = (_MYSQL_ADVANCE, _MYSQL_DRAW) if is_mysql else (_ADVANCE, _DRAW)
        advance, draws = [upsert], [draw]
        if is_mysql or (vendor == "sqlite" and sqlite_version_info < _RETURNING):
            advance = [upsert.partition("RETURNING")[0], _ADVANCED]
            draws = [draw.partition("RETURNING")[0], _DRAWN]
        #: Count on a topic, made where it is missing, and lock it; return offset, tag before and time.
        self.advance = [self._said(one) for one in advance]
        #: Draw a version, and make the clock where it is missing.
        self.draw = [self._said(one) for one in draws]
        #: Add an entry, and tell whoever listens where the database can.
        self.insert = self._said(_INSERT_AND_NOTIFY if vendor == "postgresql" else _INSERT)
        self.read = self._said(_READ)
        self.last_until = self._said(_LAST_UNTIL)
        self.oldest = self._said(_OLDEST)
        self.entry = self._said(_ENTRY)
        self.keys, self.forget, self.remember = _KEYS, _FORGET, _REMEMBER
        #: Return an event of the outbox, which nobody else can take then.
        self.outbox = self._said(_OUTBOX)
        self.old, self.long, self.trim = self._said(_OLD), self._said(_LONG), self._said(_TRIM)
        self.old_keys, self.trim_keys = _OLD_KEYS, _TRIM_KEYS

    def tails(self, count: int) -> str:
        """Return what asks for the secret, the clock, and the tails of so many topics."""
        names = ", ".join(f"%(topic{index})s" for index in range(count))
        return self._said(_TAILS.replace("{topics}", names))

    def now(self) -> dict[str, int]:
        """Return what stands for the clock in the values of a statement, where the database has none."""
        return {"now": time.time_ns() // 1000} if self._vendor == "sqlite" else {}

    def run(self, cursor: Any, statements: Sequence[str], **values: Any) -> tuple[Any, ...]:
        """Execute statements, of which the last returns a row."""
        values |= self.now()
        for statement in statements:
            cursor.execute(statement, values)
        row: tuple[Any, ...] = cursor.fetchone()
        return row

    def _said(self, statement: str) -> str:
        for name, word in self._words.items():
            statement = statement.replace(f"{{{name}}}", word)
        # Backticks are what every mode of MySQL takes.
        return statement.replace('"', "`") if self._vendor == "mysql" else statement
