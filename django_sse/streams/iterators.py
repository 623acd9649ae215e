"""A stream over a project's own async iterator."""

import asyncio
import logging
from collections.abc import AsyncIterable, Mapping
from contextvars import copy_context
from math import inf
from typing import Any

from django_sse.conf import get_settings
from django_sse.dialects import Dialect
from django_sse.publishing import make_event
from django_sse.streams.base import BaseStream
from django_sse.threads import release_request
from django_sse.wire import Event, check_not_reserved, encode

logger = logging.getLogger(__name__)

#: The id of an iterator's last event: a client that comes back with it is answered by 204.
END_ID = "end"

#: What an iterator gives: an event, a text (sent as ``message``), or a mapping (its JSON likewise).
Streamable = Event | str | Mapping[str, Any]


class IteratorStream(BaseStream):
    """One connection over a project's own async iterator."""

    def __init__(self, events: AsyncIterable[Streamable], *, dialect: Dialect | None = None) -> None:
        super().__init__(settings=get_settings(), dialect=dialect)
        self.seconds = inf  # it ends by itself; a client that was sent back would begin it anew
        self._events = events
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._context = copy_context()

    def compose(self) -> bytes:
        """Return everything queued, and forget it."""
        queue, self._queue = self._queue, []
        return b"".join(queue)

    def start(self) -> None:
        """Iterate in a task, in the context in which this stream was made: the request's own."""
        self._task = asyncio.get_running_loop().create_task(self._iterate(), context=self._context)
        self.opened()

    def look(self) -> None:
        """Let the iterator go on: everything was written."""
        self._room.set()

    async def _iterate(self) -> None:
        try:
            await self._give()
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # else it is not this task that was cancelled, but something the project's code awaited
            logger.exception("The iterator of an event stream failed")
            self.end("error", reconnect=False, id=END_ID)
        else:
            self.end("end", reconnect=False, id=END_ID)
        finally:
            # Under the lean handler Django has done this long ago, before the iterator had a use for them.
            self._task = None  # the end of the stream must not cut it short
            await release_request()

    async def _give(self) -> None:
        events = aiter(self._events)
        try:
            async for item in events:
                self.put_bytes(encode(self.word(_event(item))))
                self.schedule()
                # One event ahead at most: a slow client slows the iterator, nothing piles up.
                self._room.clear()
                await self._room.wait()
        finally:
            # The iterator, not what made it: an iterable's generator would be left to the collector.
            aclose = getattr(events, "aclose", None)
            if aclose is not None:
                await aclose()

    def _leave(self) -> None:
        super()._leave()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()


def _event(item: Streamable) -> Event:
    if isinstance(item, Event):
        return check_not_reserved(item)
    if isinstance(item, str):
        return make_event("message", text=item)
    return make_event("message", item)
