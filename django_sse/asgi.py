"""The lean handler: Django answers the request, the server's own ``send`` takes the stream.

Under Django's own handler a stream is iterated inside its request, whose coroutines, tasks and objects
live as long as it. Here Django finishes the request first (``request_finished``, threads, connections),
and then every stream writes through ``send`` by itself, in the turn of the loop in which an event comes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final

import django
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponseBase

from django_sse.responses import EventStreamResponse
from django_sse.streams import BaseStream
from django_sse.wire import CONTENT_TYPE

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

#: Requests for streams that Django answers at once; the others wait, and ordinary requests go past them. More
#: would not be faster, as Django works on one core, but would each have a thread.
ADMITTED: Final = 8


def get_asgi_application() -> "LeanHandler":
    """Return the ASGI application of a project, as Django's function of this name does."""
    django.setup(set_prefix=False)
    return LeanHandler()


class LeanHandler(ASGIHandler):
    """Django's ASGI handler, but for event streams.

    An `EventStreamResponse` goes through views and middleware as ever. Only one whose content a middleware
    has wrapped is iterated, as under Django's own handler.
    """

    def __init__(self) -> None:
        super().__init__()
        self._admission = asyncio.Semaphore(ADMITTED)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request; a stream that was its answer is then served until it ends."""
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)  # which refuses it
        context = copy_context()  # the server's: what is under way for a stream has no other
        receiver, handover = _Receive(receive, context), _Handover(send)
        try:
            async with self._admit(scope):
                await super().__call__(scope, receiver, handover)  # type: ignore[arg-type]
            if handover.stream is not None:
                await SendOutlet(handover.stream, send, context).serve(receiver.disconnect())
        finally:
            await receiver.close()

    def _admit(self, scope: Any) -> AbstractAsyncContextManager[None]:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
        return self._admission if CONTENT_TYPE.encode() in accept else nullcontext()

    async def send_response(self, response: HttpResponseBase, send: Any) -> None:
        """Send a response, of a stream the head alone: its bytes follow when Django has finished."""
        if isinstance(response, EventStreamResponse) and isinstance(send, _Handover):
            send.stream = response.detach()
        await super().send_response(response, send)


class _Handover:
    """A server's `send` as Django sees it, which keeps the place of a stream's bytes."""

    def __init__(self, send: Send) -> None:
        self.stream: BaseStream | None = None
        self._send = send

    def __call__(self, message: Message) -> Awaitable[None]:
        if self.stream is None or message["type"] == "http.response.start":
            return self._send(message)
        return _nothing()


async def _nothing() -> None:
    pass


class _Receive:
    """A server's `receive` as Django sees it.

    Django waits for a disconnect in a task that it cancels, and gunicorn's `receive` cannot be called again
    after that. So whatever comes behind the request is waited for once, in one task.
    """

    def __init__(self, receive: Receive, context: Context) -> None:
        self._receive = receive
        self._context = context
        self._complete = False
        self._next: asyncio.Task[Message] | None = None

    async def __call__(self) -> Message:
        if self._complete:
            return await asyncio.shield(self.disconnect())
        message: Message = await self._receive()
        self._complete = not message.get("more_body", False)
        return message

    def disconnect(self) -> asyncio.Task[Message]:
        """Return what ends when the client is gone."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._await(), context=self._context)
        return self._next

    async def _await(self) -> Message:
        message: Message = await self._receive()
        return message

    async def close(self) -> None:
        """Wait for nothing more."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)


class SendOutlet:
    """Hands a stream's bytes to the server's `send`, in the turn in which they are written.

    What `send` does is stepped through right there. Where it waits, the server asks for patience, and a
    task takes over: the outlet is not free until that has ended.
    """

    __slots__ = ("_brake", "_context", "_done", "_finishing", "_loop", "_send", "_sending", "_stream", "free")

    def __init__(self, stream: BaseStream, send: Send, context: Context) -> None:
        self._stream = stream
        self._send = send
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._sending: asyncio.Task[None] | None = None
        self._finishing = False
        #: Whether it takes a write now.
        self.free = True
        self._brake = Brake.of(send, released=self._go_on)

    async def serve(self, disconnect: asyncio.Future[Any]) -> None:
        """Serve the stream until it has ended, or its client is gone."""
        disconnect.add_done_callback(self._end)
        try:
            if not disconnect.done():
                self._stream.open(self)
            await self._done
        except Exception:
            # No exception leaves a stream: it would damage daphne for good.
            logger.exception("A stream failed")
            self.finish()
        finally:
            disconnect.remove_done_callback(self._end)
            self._end()

    def write(self, data: bytes) -> None:
        """Send bytes; called only while free."""
        self._step({"type": "http.response.body", "body": data, "more_body": True})
        if self._brake is not None and self._brake.applied:
            self.free = False

    def finish(self) -> None:
        """Complete the response behind what was written."""
        self._finishing = True
        if self._sending is None:
            self._complete()

    @property
    def done(self) -> bool:
        """Whether nothing of it is on its way any more."""
        return self._done.done()

    def abort(self) -> None:
        """End at once: what the client has not taken is given up."""
        self._end()

    def _complete(self) -> None:
        if self._brake is not None:
            self._brake.dismount()
        self._step({"type": "http.response.body", "body": b"", "more_body": False})
        if self._sending is None:
            self._end()

    def _step(self, message: Message) -> None:
        try:
            steps = self._send(message).__await__()
            # Tokens of context variables, which a wrapped `send` may hold, are good in one context only.
            waited_for = self._context.run(next, steps, _DONE)
        except Exception:
            logger.debug("A server took no more of a stream", exc_info=True)
            self._end()
            return
        if waited_for is not _DONE:
            self.free = False
            self._sending = self._loop.create_task(_await(_Rest(waited_for, steps)), context=self._context)
            self._sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending = None
        if sending.cancelled() or (error := sending.exception()) is not None:
            if not sending.cancelled():
                logger.debug("A server took no more of a stream", exc_info=error)
            self._end()
        elif not self._finishing:
            self._go_on()
        elif not self._done.done():
            self._complete()

    def _go_on(self) -> None:
        is_braked = self._brake is not None and self._brake.applied
        if self._sending is None and not is_braked and not self._done.done():
            self.free = True
            self._stream.flush()

    def _end(self, _: object = None) -> None:
        self.free = False
        self._stream.close()
        if self._sending is not None:
            self._sending.cancel()
        if not self._done.done():
            self._done.set_result(None)


_DONE: Final = object()


class _Rest:
    """What is left of an awaitable that was stepped once, and then waited for something."""

    def __init__(self, waited_for: Any, steps: Generator[Any, Any, None]) -> None:
        self._waited_for = waited_for
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield self._waited_for
        except BaseException as error:  # noqa: BLE001  (a cancellation is the awaitable's own business)
            yield self._steps.throw(error)
        yield from self._steps


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


class Brake:
    """daphne's back-pressure, which its `send` does not have.

    Twisted asks the producer of a response (IPushProducer) to pause while the connection's buffer is full;
    daphne is told by nobody. Its `send` is a partial of its protocol, the response that a producer registers
    with; where a middleware has wrapped `send` there is no brake.
    """

    def __init__(self, response: Any, released: Callable[[], None]) -> None:
        self.applied = False
        self._response = response
        self._released = released
        response.registerProducer(self, True)  # noqa: FBT003  (Twisted's own: a push producer)

    @classmethod
    def of(cls, send: Send, released: Callable[[], None]) -> "Brake | None":
        """Return the brake of a response, None where the server needs none."""
        response = send.args[0] if isinstance(send, partial) and send.args else None
        if hasattr(response, "registerProducer") and getattr(response, "channel", None) is not None:
            return cls(response, released)
        return None

    def dismount(self) -> None:
        """Leave the response alone, which is about to end."""
        if self._response.channel is not None:
            self._response.unregisterProducer()

    def pauseProducing(self) -> None:  # noqa: N802  (Twisted's name)
        """Note that the buffer is full."""
        self.applied = True

    def resumeProducing(self) -> None:  # noqa: N802
        """Go on: the buffer has room."""
        self.applied = False
        self._released()

    def stopProducing(self) -> None:  # noqa: N802
        """Do nothing: the disconnect is told by `receive`."""
