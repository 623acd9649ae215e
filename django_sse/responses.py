"""The response of an event stream.

Under Django's own handler a response is iterated. Django (5.2 to 6.1) nests generators around an
iterator and closes only the outermost, so a source that is waiting would be left to the garbage
collector; and an exception that leaves a stream damages daphne for good. So the response hands out
one iterator object of its own, which closes its stream and raises nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Mapping

from django.http import HttpRequest, StreamingHttpResponse

from django_sse.dialects import envelope_of
from django_sse.requests import is_asgi, last_event_id
from django_sse.streams import END_ID, BaseStream, IteratorStream, Streamable
from django_sse.threads import release_request
from django_sse.wire import CONTENT_TYPE

logger = logging.getLogger(__name__)

#: The headers that matter. ``Content-Encoding`` keeps GZipMiddleware away, which holds events back;
#: the others keep caches and buffering proxies away. ``Connection`` is the server's own business.
HEADERS: Mapping[str, str] = {
    "Content-Type": CONTENT_TYPE,
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "Content-Encoding": "identity",
}
WSGI_REFUSAL = (
    "Event streams need ASGI: serve this project with daphne, uvicorn, hypercorn or another ASGI server "
    "instead of WSGI.\n"
)


class EventStreamResponse(StreamingHttpResponse):
    """A response over a stream, or over a project's own async iterator of events.

    The iterator gives `Event` values, texts (sent as ``message``) or mappings (their JSON likewise), and
    is used once: its end is told with ``sse-close``, and a browser that reconnects after it gets 204,
    which stops it. What it raises is logged, and ends the stream likewise. Under WSGI the answer is 501
    and a sentence.
    """

    def __init__(
        self,
        events: BaseStream | AsyncIterable[Streamable],
        *,
        request: HttpRequest,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._outlet: IteratorOutlet | None = None
        if not is_asgi(request):
            super().__init__([WSGI_REFUSAL.encode()], status=501, content_type="text/plain; charset=utf-8")
            return
        if not isinstance(events, BaseStream) and last_event_id(request) == END_ID:
            super().__init__(_nothing(), status=204)
            del self.headers["Content-Type"]
            return
        if request.method != "HEAD":  # whose endless body's generator three servers would keep
            if not isinstance(events, BaseStream):
                events = IteratorStream(events, dialect=envelope_of(request))
            self._outlet = IteratorOutlet(events)
        super().__init__(self._outlet or _nothing(), status=status, headers={**HEADERS, **(headers or {})})

    def detach(self) -> BaseStream | None:
        """Give away the stream, whose bytes then go elsewhere; None where a middleware wraps its content."""
        if self._outlet is None or vars(self)["_iterator"] is not self._outlet:
            return None
        return self._outlet.detach()

    # Django's is an async generator function; ours returns the iterator itself, which it closes.
    def __aiter__(self) -> AsyncIterator[bytes]:
        """Return the outlet, or what a middleware has wrapped around it."""
        if self._outlet is not None and vars(self)["_iterator"] is self._outlet:
            return self._outlet
        return super().__aiter__()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""  # what makes this an asynchronous iterator


class IteratorOutlet:
    """Hands a stream's bytes to whoever iterates the response, who is waited for: back-pressure."""

    def __init__(self, stream: BaseStream) -> None:
        self._stream = stream
        self._started = False
        self._finished = False
        self._detached = False
        #: Whether nothing of it is on its way any more.
        self.done = False
        self._asked: asyncio.Future[bytes] | None = None

    def __aiter__(self) -> "IteratorOutlet":
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Wait for the next bytes; no exception but cancellation leaves from here."""
        try:
            if not self._started:
                self._started = True
                await release_request()
                self._stream.open(self)
            if not self._finished:
                return await self._next()
        except Exception:
            logger.exception("A stream failed")
        self._end()
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        self._asked = asyncio.get_running_loop().create_future()
        try:
            self._stream.flush()
            if self._finished and not self._asked.done():
                return b""
            return await self._asked
        finally:
            self._asked = None

    @property
    def free(self) -> bool:
        """Whether somebody waits for bytes."""
        return self._asked is not None and not self._asked.done()

    def write(self, data: bytes) -> None:
        """Give bytes to who waits."""
        if self._asked is not None:
            self._asked.set_result(data)

    def finish(self) -> None:
        """End the iteration behind what was written."""
        self._finished = True
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(b"")

    def abort(self) -> None:
        """End the iteration: whoever writes to the client is not in reach."""
        self.finish()

    async def aclose(self) -> None:
        """End: the client is gone."""
        self._end()

    def close(self) -> None:
        """End: Django is done with the response. Safe from any thread, and any number of times."""
        self.done = True
        self._end()

    def _end(self) -> None:
        self._finished = True
        if not self._detached:
            self._stream.close()

    def detach(self) -> BaseStream:
        """Give away the stream: nothing comes from here, and closing it closes nothing."""
        self._started = self._finished = self._detached = True
        return self._stream
