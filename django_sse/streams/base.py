"""What every stream has: bytes that wait for an outlet, a heartbeat, a life and an end."""

import asyncio
import json
import logging
import random
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, Final, Protocol

from django_sse.conf import Settings
from django_sse.dialects import Dialect
from django_sse.hub import Hub
from django_sse.signals import stream_closed, stream_opened
from django_sse.visitors import Visitor
from django_sse.wire import HEARTBEAT, Event, encode, encode_retry

logger = logging.getLogger(__name__)

#: Seconds after which a client that was turned away comes back, at least; spread like RETRY.
FULL_RETRY: Final = 60.0


class Outlet(Protocol):
    """Where a stream's bytes go."""

    @property
    def free(self) -> bool:
        """Whether it takes a write now."""

    def write(self, data: bytes) -> None:
        """Take bytes; called only while free. Where it then is not, it calls `flush` when it is again."""

    @property
    def done(self) -> bool:
        """Whether nothing of it is on its way any more."""

    def finish(self) -> None:
        """End politely: nothing follows what was written."""

    def abort(self) -> None:
        """End at once: what the client has not taken is given up."""


def reserved_event(name: str, **data: object) -> Event:
    """Return an event of this package's own, whose data is JSON."""
    return Event(name=name, text=json.dumps(data, separators=(",", ":")))


class BaseStream(ABC):
    """Bytes that wait for an outlet, and how a connection lives and ends."""

    # There are thousands, and each one's memory is walked through for each event.
    __slots__ = (
        "__weakref__",
        "_begun",
        "_closed",
        "_deadline",
        "_hub",
        "_outlet",
        "_queue",
        "_scheduled",
        "_silent",
        "dialect",
        "ended",
        "reason",
        "seconds",
        "settings",
        "visitor",
    )

    def __init__(
        self,
        *,
        settings: Settings,
        seconds: float | None = None,
        visitor: Visitor | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        #: Seconds that it may live; spread, so that streams which came together do not come back so.
        self.seconds = settings.MAX_AGE * random.uniform(0.8, 1.0)  # noqa: S311  (not a secret)
        self.reason = "age"
        if seconds is not None and seconds < self.seconds:
            self.seconds, self.reason = seconds, "session"
        self.settings = settings
        #: Whose it is; None for anonymous visitors.
        self.visitor = visitor
        #: How its events are worded; None for our own words.
        self.dialect = dialect
        self.ended = False
        self._hub: Hub | None = None
        self._outlet: Outlet | None = None
        self._queue: list[Any] = []
        self._deadline = 0.0
        self._begun = False
        self._closed = False
        self._scheduled = False
        self._silent = False

    @property
    def user(self) -> str | None:
        """Whose it is: the user's own topic; None for anonymous visitors."""
        return None if self.visitor is None else self.visitor.user

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that it follows; none where it has its events from elsewhere."""
        return ()

    @property
    def hub(self) -> Hub:
        """The hub that serves it, once it is open."""
        if self._hub is None:
            msg = "a stream has no hub before open()"
            raise RuntimeError(msg)
        return self._hub

    def over(self) -> bool:
        """Tell whether it has ended, or its client is gone."""
        return self.ended or self._closed

    def open(self, outlet: Outlet) -> None:
        """Begin to write to an outlet, in the running event loop; closed before, it stays closed.

        Where too many are open, or the process is about to stop, it ends at once, and says so: browsers come
        back only after an answer of 200.
        """
        if self._closed:
            outlet.finish()
            return
        self._hub = Hub.current()
        self._outlet = outlet
        self._hub.counters.opened += 1
        refusal = self._hub.streams.refusal(self.user)
        retry = max(self.settings.RETRY, FULL_RETRY) if refusal == "limit" else self.settings.RETRY
        self.put_bytes(encode_retry(retry * random.uniform(0.75, 1.25)))  # noqa: S311  (not a secret)
        if refusal is not None:
            self._hub.counters.refusals += 1
            self.end(refusal)
            return
        self._deadline = self._hub.loop.time() + self.seconds
        self._hub.add(self)
        self.start()
        self.schedule()

    @abstractmethod
    def start(self) -> None:
        """Begin what gives this stream its events."""

    @property
    def sender(self) -> type["BaseStream"]:
        """The class that signals name."""
        return type(self)

    def word(self, event: Event) -> Event:
        """Return an event in this stream's words."""
        return event if self.dialect is None else self.dialect.word(event)

    def put_bytes(self, data: bytes) -> None:
        """Queue ready-made bytes."""
        self._queue.append(data)

    @abstractmethod
    def compose(self) -> bytes:
        """Return everything queued, ready to leave, and forget it."""

    @abstractmethod
    def look(self) -> None:
        """Go on: the queue is empty and the outlet free."""

    def schedule(self) -> None:
        """Flush once in the next turn of the loop, where the outlet is free; else it asks by itself."""
        if not self._scheduled and self._outlet is not None and self._outlet.free and self._hub is not None:
            self._scheduled = True
            self._hub.fan_out.schedule(self)

    def flush(self) -> None:
        """Write everything queued as one write, and go on; after the last one, finish."""
        self._scheduled = False
        if self._closed or self._outlet is None or not self._outlet.free:
            return
        try:
            if self._queue:
                self._silent = False
                self._outlet.write(self.compose())
            if not self.ended and self._outlet.free:
                self.look()
        except Exception:
            logger.exception("A stream failed")
            self._fail(self._outlet)
            return
        if self.ended:
            self._outlet.finish()

    def _fail(self, outlet: Outlet) -> None:
        # What was to be written is lost; the client comes back for it with the last id that it has.
        self.close()
        outlet.finish()

    def beat(self, now: float) -> None:
        """Write a heartbeat where nothing was written since the last beat; end where time is over."""
        if now >= self._deadline:
            self.end(self.reason)
        elif self._silent and not self._queue:
            self.put_bytes(HEARTBEAT if self.dialect is None else self.dialect.heartbeat)
            self.schedule()
        self._silent = True

    # -- the end --------------------------------------------------------------------------------

    def end(
        self,
        reason: str,
        *,
        reconnect: bool = True,
        retry: float | None = None,
        drop: bool = False,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """End politely: say why with ``sse-close`` behind what is queued, then finish.

        ``retry`` is after how many seconds the client may come back; with ``drop`` it gets nothing of what is
        queued: it may not have it any more.
        """
        if self._hub is not None:
            self._hub.fan_out.settle()  # which may itself end this stream
        if self.ended or self._closed:
            return
        if self._hub is not None:
            self._hub.counters.note_end(reason, user=self.user, topics=self.topics)
        self._leave()
        if drop:
            self._queue.clear()
        if retry is not None:
            self.put_bytes(encode_retry(retry))
        closing = reserved_event("sse-close", reason=reason, reconnect=reconnect)
        self.put_bytes(encode(self.word(closing), id=id))
        self.ended = True
        self.schedule()

    @property
    def is_gone(self) -> bool:
        """Whether its response is complete, or its client gone."""
        return self._outlet is None or self._outlet.done

    def abort(self) -> None:
        """End at once, whatever is on its way."""
        self.close()
        if self._outlet is not None:
            self._outlet.abort()

    def close(self) -> None:
        """End at once: the client is gone. Safe from any thread, and any number of times."""
        hub, self._closed = self._hub, True
        if hub is None or hub.loop.is_closed():
            return
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is hub.loop:
            self._leave()
        else:
            with suppress(RuntimeError):  # the loop was closed meanwhile, and the stream with it
                hub.loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        if self._hub is not None and self in self._hub.streams:
            self._hub.streams.discard(self)
            if self._begun and stream_closed.has_listeners(self.sender):
                self._hub.spawn(_announce(stream_closed, self))

    def opened(self) -> None:
        """Tell the project that this stream has begun; only such a one is told of when it ends."""
        self._begun = True
        if stream_opened.has_listeners(self.sender):
            self.hub.spawn(_announce(stream_opened, self))


async def _announce(signal: Any, stream: BaseStream) -> None:
    for receiver, error in await signal.asend_robust(sender=stream.sender, stream=stream):
        if isinstance(error, Exception):
            logger.error("A receiver failed: %r", receiver, exc_info=error)
