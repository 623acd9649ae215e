"""The line in which an event loop's calls wait for one server.

Its batches keep the number of connections small, and the number of round trips below that of the calls.
"""

import asyncio
from asyncio import Future, Task
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final

import redis
import redis.asyncio

from django_sse.exceptions import HistoryError
from django_sse.history.redis.calls import Call, aexecute, complaint
from django_sse.history.redis.hosts import make_async_client

_CALLS_AT_ONCE: Final = 256
_BYTES_AT_ONCE: Final = 1024 * 1024
_CLOSED: Final = "the history in Redis was closed"


@dataclass(slots=True, eq=False, repr=False)  # a repr would show the client, which has a password
class Line:
    """One server's calls of one event loop: those that wait travel together, in order, by one task.

    Callers may be cancelled at any time: only this task does I/O. A timeout fails all that wait, so
    that nobody waits for several.
    """

    client: "redis.asyncio.Redis"
    timeout: float
    _waiting: deque[tuple[Call, Future[Any]]] = field(default_factory=deque)
    _task: Task[None] | None = None

    def send(self, call: Call) -> Future[Any]:
        """Return the future answer."""
        loop = asyncio.get_running_loop()
        future: Future[Any] = loop.create_future()
        self._waiting.append((call, future))
        if self._task is None or self._task.done():
            # An empty context: the caller's request must not live on in it.
            self._task = loop.create_task(self._work(), context=Context())
        return future

    def close(self) -> None:
        """End the task; what waits fails."""
        if self._task is not None:
            self._task.cancel()
        self._fail([*self._waiting], _CLOSED)

    async def _work(self) -> None:
        # In this turn the event loop hears of connections that were closed while it was busy.
        await asyncio.sleep(0)
        while batch := self._next():
            try:
                async with asyncio.timeout(self.timeout):
                    answers = await aexecute(self.client, [call for call, _ in batch])
            except (redis.RedisError, OSError) as error:
                late = isinstance(error, redis.TimeoutError | TimeoutError)
                self._fail([*batch, *self._waiting] if late else batch, complaint(error), error)
            except BaseException:
                self._fail([*batch, *self._waiting], _CLOSED)
                raise
            else:
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)

    def _next(self) -> list[tuple[Call, Future[Any]]]:
        batch: list[tuple[Call, Future[Any]]] = []
        size = 0
        while self._waiting and len(batch) < _CALLS_AT_ONCE and size < _BYTES_AT_ONCE:
            call, future = self._waiting.popleft()
            if not future.done():  # whoever gave up is not sent for
                batch.append((call, future))
                size += call.size
        return batch

    def _fail(
        self, batch: Iterable[tuple[Call, Future[Any]]], told: str, cause: Exception | None = None
    ) -> None:
        for _, future in batch:
            if not future.done():
                failure = HistoryError(told)  # one each: whoever raises it adds to it
                failure.__cause__ = cause
                future.set_exception(failure)
        self._waiting = deque(waiting for waiting in self._waiting if not waiting[1].done())


class Lines:
    """The connections of one event loop: per server one that writes, and one that reads beside it."""

    def __init__(self, hosts: Sequence[Mapping[str, Any]], timeout: float) -> None:
        self._clients = [make_async_client(host, timeout) for host in hosts]
        self.writing = [Line(client, timeout) for client in self._clients]
        self.reading = [Line(client, timeout) for client in self._clients]

    async def kept(self) -> AsyncGenerator[None]:
        """Close the connections when this generator is closed.

        Its event loop does so, before it is itself closed, or when nothing refers to it any more.
        """
        try:
            yield
        finally:
            for line in (*self.writing, *self.reading):
                line.close()
            for client in self._clients:
                await client.connection_pool.disconnect()
