"""The history whose entries are in Redis."""

import asyncio
import math
import re
import weakref
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Collection, Sequence
from hashlib import blake2b
from itertools import islice
from threading import Lock
from typing import Any, ClassVar, Final
from zlib import crc32

import redis

from django_sse.exceptions import HistoryError
from django_sse.forks import after_fork
from django_sse.history.base import BaseHistory, Gone, Page, check_limits, draw_tag
from django_sse.history.redis.calls import Call, complaint, execute, sound
from django_sse.history.redis.entries import (
    decode_appended,
    decode_page,
    decode_positions,
    draw_genesis,
    encode_key,
    encode_position,
    encode_version,
)
from django_sse.history.redis.hosts import Host, decode_hosts, make_client
from django_sse.history.redis.lines import Lines
from django_sse.history.redis.scripts import APPEND, AT, NEXT_VERSION, READ, TAIL, Script
from django_sse.positions import Entry, Position
from django_sse.wire import Event

_PREFIX = re.compile(r"[A-Za-z0-9\-_.:]{1,100}")
_PLAIN_TOPIC = re.compile(r"[A-Za-z0-9\-_.]{1,200}")
# Topics in one script, so that Redis is busy for less than a millisecond with each.
_TOPICS_AT_ONCE: Final = 128
# A page of entries ends after so many bytes: a hundred events of 1 MB would not come within the timeout.
_PAGE_BYTES: Final = 1024 * 1024
# What an entry of a page counts among the bytes that travel at once, which must come within the timeout too.
_PER_ENTRY: Final = 1024


class RedisHistory(BaseHistory):
    """Entries in Redis, limited by number and age.

    ``hosts`` are servers as channels_redis takes them; with several, each topic lives on one of them, so
    every process must name the same, in the same order. ``prefix`` begins the name of every key.
    ``length`` entries and ``age`` seconds bound each topic, whose newest entry outlives both; ``key_age``
    seconds (and ``length`` of each kind) bound what is remembered of versions and idempotency keys.
    ``timeout`` seconds bound connecting, and waiting for an answer.

    Nothing is tried twice: where an answer was lost, whether the event was appended is known to the
    ``idempotency_key`` alone.
    """

    shared: ClassVar[bool] = True

    def __init__(
        self,
        *,
        url: str | None = None,
        hosts: Sequence[Host] | None = None,
        prefix: str = "sse",
        length: int = 10_000,
        age: float = 86_400.0,
        key_age: float = 86_400.0,
        timeout: float = 2.0,
    ) -> None:
        check_limits(length=length, age=age, key_age=key_age, timeout=timeout)
        if not _PREFIX.fullmatch(prefix):
            msg = f"prefix is {prefix!r}: use 1 to 100 ASCII letters, digits, dashes, dots, colons"
            raise ValueError(msg)
        self._hosts = decode_hosts(url, hosts)
        self._prefix = prefix
        self._ttl = math.ceil(age)
        self._limits = b"%d %d %d %d %d" % (
            *(math.ceil(length), round(age * 1_000_000), self._ttl),
            *(round(key_age * 1_000_000), math.ceil(key_age)),
        )
        self._timeout = timeout
        self._begin()
        _histories.add(self)

    def _begin(self) -> None:
        self._lock = Lock()
        self._clients = [make_client(host, self._timeout) for host in self._hosts]
        # Replaced as a whole, so reading it needs no lock. What closes a loop's lines stands beside them, for
        # in a circle of references it would not be closed at once.
        self._loops: dict[AbstractEventLoop, tuple[Lines, AsyncGenerator[None]]] = {}

    def close(self) -> None:
        """Close every connection; the next call opens new ones."""
        with self._lock:
            # Their generators, now unreferenced, are closed by their own event loops.
            self._loops = {}
        for client in self._clients:
            client.connection_pool.disconnect()

    # -- the contract ------------------------------------------------------------------------------

    async def aappend(
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        """Append an event and return its entry, or None where its version is stale."""
        tag = draw_tag()
        call = self._append_call(topic, event, tag, idempotency_key, key, version)
        [answer] = await self._asend([call], writing=True)
        return decode_appended(topic, event, tag, answer)

    def append(  # noqa: D102
        self,
        topic: str,
        event: Event,
        *,
        idempotency_key: str | None = None,
        key: str | None = None,
        version: int | None = None,
    ) -> Entry | None:
        tag = draw_tag()
        [answer] = self._send([self._append_call(topic, event, tag, idempotency_key, key, version)])
        return decode_appended(topic, event, tag, answer)

    async def read(self, topic: str, position: Position, *, limit: int) -> Page | Gone:
        """Return at most ``limit`` entries after a position, fewer where they are large, or Gone."""
        arguments = (encode_position(position), limit, draw_genesis(), self._ttl, _PAGE_BYTES)
        call = Call(self._shard(topic), READ, [self._log(topic)], arguments, limit * _PER_ENTRY)
        [answer] = await self._asend([call])
        return decode_page(topic, position, answer)

    async def atail(self, topics: Collection[str]) -> dict[str, Position]:
        """Return the newest position of each topic."""
        calls = self._topic_calls(TAIL, topics)
        return decode_positions(topics, calls, await self._asend(list(calls.values())))

    def tail(self, topics: Collection[str]) -> dict[str, Position]:  # noqa: D102
        calls = self._topic_calls(TAIL, topics)
        return decode_positions(topics, calls, self._send(list(calls.values())))

    async def aat(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:
        """Return the positions as they stood ``ago`` seconds before now."""
        calls = self._topic_calls(AT, topics, round(ago * 1_000_000))
        return decode_positions(topics, calls, await self._asend(list(calls.values())))

    def at(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:  # noqa: D102
        calls = self._topic_calls(AT, topics, round(ago * 1_000_000))
        return decode_positions(topics, calls, self._send(list(calls.values())))

    async def anext_version(self) -> int:
        """Return a number above all that were returned before."""
        [answer] = await self._asend([self._version_call()], writing=True)
        return int(answer)

    def next_version(self) -> int:  # noqa: D102
        [answer] = self._send([self._version_call()])
        return int(answer)

    # -- calls and answers -------------------------------------------------------------------------

    def _shard(self, topic: str) -> int:
        return crc32(topic.encode()) % len(self._hosts) if len(self._hosts) > 1 else 0

    def _log(self, topic: str) -> str:
        # Braces make Redis place both keys of a topic together; "~" is in no plain name.
        plain = _PLAIN_TOPIC.fullmatch(topic)
        name = topic if plain else f"~{blake2b(topic.encode(), digest_size=16).hexdigest()}"
        return f"{self._prefix}:{{{name}}}"

    def _append_call(
        self,
        topic: str,
        event: Event,
        tag: int,
        idempotency_key: str | None,
        key: str | None,
        version: int | None,
    ) -> Call:
        # Bytes, and few of them: redis-py looks long at anything else.
        arguments = [
            b"%d" % tag,
            b"%d" % draw_genesis(),
            event.name.encode(),
            event.text.encode(),
            self._limits,
        ]
        if idempotency_key is not None or key is not None:
            arguments.append(b"" if idempotency_key is None else encode_key(idempotency_key))
        if key is not None and version is not None:
            arguments += (encode_key(key), encode_version(key, version))
        log = self._log(topic)
        return Call(self._shard(topic), APPEND, (log, f"{log}:keys"), arguments)

    def _topic_calls(
        self, script: Script, topics: Collection[str], *arguments: int
    ) -> dict[tuple[str, ...], Call]:
        # One genesis tag for all: it must be hard to guess, not different in each topic.
        given = (draw_genesis(), self._ttl, *arguments)
        calls = {}
        for shard in range(len(self._hosts)):
            there = iter(dict.fromkeys(topic for topic in topics if self._shard(topic) == shard))
            while some := tuple(islice(there, _TOPICS_AT_ONCE)):
                calls[some] = Call(shard, script, [self._log(topic) for topic in some], given)
        return calls

    def _version_call(self) -> Call:
        return Call(0, NEXT_VERSION, (f"{self._prefix}:version",), ())

    # -- servers -----------------------------------------------------------------------------------

    def _send(self, calls: Sequence[Call]) -> list[Any]:
        answers: list[Any] = [None] * len(calls)
        try:
            for shard, client in enumerate(self._clients):
                mine = [index for index, call in enumerate(calls) if call.shard == shard]
                found = execute(client, [calls[index] for index in mine])
                for index, answer in zip(mine, found, strict=True):
                    answers[index] = answer
        except (redis.RedisError, OSError) as error:
            raise HistoryError(complaint(error)) from error
        return sound(answers)

    async def _asend(self, calls: Sequence[Call], *, writing: bool = False) -> list[Any]:
        if not calls:
            return []
        loop = asyncio.get_running_loop()
        if (found := self._loops.get(loop)) is None:
            lines = Lines(self._hosts, self._timeout)
            keeper = lines.kept()
            await anext(keeper)
            with self._lock:
                alive = {old: kept for old, kept in self._loops.items() if not old.is_closed()}
                self._loops = alive | {loop: (lines, keeper)}
        else:
            lines, _ = found
        chosen = lines.writing if writing else lines.reading
        futures = [chosen[call.shard].send(call) for call in calls]
        return sound([await futures[0]] if len(futures) == 1 else await asyncio.gather(*futures))


_histories: "weakref.WeakSet[RedisHistory]" = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    # The parent's connections are kept, and never touched: closing one here would disturb the parent.
    for history in _histories:
        _inherited.append((history._clients, history._loops))  # noqa: SLF001
        history._begin()  # noqa: SLF001


after_fork(_after_fork)
