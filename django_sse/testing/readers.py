"""A stream as its client reads it, which never hangs.

One task reads ahead into a queue. So a read that gives up leaves the stream as it is; and where the task is
cancelled it waits inside the response, whose nested generators then end, each by its own ``finally``.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, cast

from asgiref.testing import ApplicationCommunicator
from django.http import HttpResponseBase, StreamingHttpResponse

from django_sse.wire import CONTENT_TYPE, RESERVED_PREFIX, Message, Parser

Parts = AsyncGenerator[bytes, None]

# An endless stream that never waits is read no further.
_AHEAD = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent(Message):
    """An event that a client has received."""

    @property
    def data(self) -> Any:
        """The text read as JSON; raises ValueError where it is none."""
        return json.loads(self.text)


class StreamReader:
    """The events of a stream, one after the other; iterated, those of the project until the stream ends.

    What comes too late raises TimeoutError, and what the stream raises is raised here.
    """

    def __init__(self, parts: Parts, *, timeout: float) -> None:
        #: Every event that has come so far, asked for or not.
        self.seen: list[ReceivedEvent] = []
        self._timeout = timeout
        self._queue: asyncio.Queue[ReceivedEvent | Exception | None] = asyncio.Queue(_AHEAD)
        self._ended = False
        self._reading = asyncio.get_running_loop().create_task(self._read(parts))

    async def next(
        self,
        name: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  (its message says more)
    ) -> ReceivedEvent:
        """Return the next event of a name, or of the project; raise AssertionError at the stream's end."""
        event = await self._next(name, self._timeout if timeout is None else timeout)
        if event is None:
            raise AssertionError(f"the stream ended without {_wanted(name)}; {self._so_far}")
        return event

    async def until_open(self) -> Any:
        """Return the data of ``sse-open``: what is sent from now on will come."""
        return (await self.next("sse-open")).data

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReceivedEvent:
        event = await self._next(None, self._timeout)
        if event is None:
            raise StopAsyncIteration
        return event

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        if not await _has_ended(self._reading, self._timeout):
            raise TimeoutError(f"the stream did not close within {self._timeout:g} s; {self._so_far}")

    async def _next(self, name: str | None, seconds: float) -> ReceivedEvent | None:
        try:
            async with asyncio.timeout(seconds) as limit:
                while (event := await self._take()) is not None:
                    if event.name == name or (name is None and not event.name.startswith(RESERVED_PREFIX)):
                        break
                return event
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(f"{_wanted(name)} did not come within {seconds:g} s; {self._so_far}") from None

    async def _take(self) -> ReceivedEvent | None:
        item = None if self._ended else await self._queue.get()
        self._ended = not isinstance(item, ReceivedEvent)
        if isinstance(item, Exception):
            raise item
        return item

    async def _read(self, parts: Parts) -> None:
        parser = Parser()
        end = None
        try:
            async with aclosing(parts):
                async for part in parts:
                    for message in parser.feed(part):
                        event = ReceivedEvent(name=message.name, text=message.text, id=message.id)
                        self.seen.append(event)
                        await self._queue.put(event)
        except Exception as error:  # noqa: BLE001  (the test's own, which raises it where it reads)
            end = error
        await self._queue.put(end)

    @property
    def _so_far(self) -> str:
        return f"seen: {', '.join(f'{event.name} {event.text!r}' for event in self.seen) or 'nothing'}"


@asynccontextmanager
async def read_stream(
    source: HttpResponseBase | ApplicationCommunicator,
    *,
    timeout: float = 5,  # noqa: ASYNC109  (its messages say more)
) -> AsyncIterator[StreamReader]:
    """Read the stream of a response, or of a communicator that was sent its request; close it at the end.

    Whatever is waited for comes in so many seconds, or raises TimeoutError.
    """
    if isinstance(source, ApplicationCommunicator):
        opened = _of_communicator(source, timeout)
    else:
        opened = _of_response(source)
    async with opened as parts:
        reader = StreamReader(parts, timeout=timeout)
        try:
            yield reader
        finally:
            await reader.close()


@asynccontextmanager
async def _of_response(response: HttpResponseBase) -> AsyncIterator[Parts]:
    try:
        _check(response.status_code, response.headers.get("Content-Type", ""))
        if not isinstance(response, StreamingHttpResponse):
            raise AssertionError(f"the response does not stream: {response!r}")  # noqa: TRY004  (the test's)
        yield cast("Parts", aiter(response))  # which Django's own handler closes, too
    finally:
        if not response.closed:
            response.close()


@asynccontextmanager
async def _of_communicator(communicator: ApplicationCommunicator, seconds: float) -> AsyncIterator[Parts]:
    # The communicator's own methods would end the application where a read gives up.
    application: asyncio.Future[None] = communicator.future
    output: asyncio.Queue[dict[str, Any] | None] = communicator.output_queue
    application.add_done_callback(lambda _: output.put_nowait(None))

    async def parts() -> Parts:
        while (message := await output.get()) is not None:
            if message["type"] == "http.response.start":
                headers = {name.lower(): value.decode("latin-1") for name, value in message["headers"]}
                _check(message["status"], headers.get(b"content-type", ""))
            else:
                yield message.get("body", b"")
                if not message.get("more_body", False):
                    return
        if not application.cancelled():
            application.result()

    try:
        yield parts()
    finally:
        communicator.input_queue.put_nowait({"type": "http.disconnect"})
        if not await _has_ended(application, seconds):
            application.cancel()
            await _has_ended(application, seconds)
            raise TimeoutError(f"the application did not end within {seconds:g} s of its client's going")
        if not application.cancelled():
            application.result()


def _check(status: int, content_type: str) -> None:
    if content_type.partition(";")[0] != CONTENT_TYPE:
        raise AssertionError(f"the response is no event stream: status {status}, {content_type or 'no type'}")


def _wanted(name: str | None) -> str:
    return f"event {name!r}" if name else "an event"


async def _has_ended(future: asyncio.Future[Any], seconds: float) -> bool:
    await asyncio.wait({future}, timeout=seconds)
    return future.done()
