"""Starlette with sse-starlette: a queue for each client, as its examples have it."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.bench.sites.order import Order, id_of, text_of

_queues: dict[asyncio.Queue[ServerSentEvent], None] = {}


async def events(request: Request) -> Response:
    """Stream what comes into a queue of its own."""

    async def stream() -> AsyncIterator[ServerSentEvent]:
        queue: asyncio.Queue[ServerSentEvent] = asyncio.Queue()
        yield ServerSentEvent(event="open", data="", sep="\n")
        _queues[queue] = None
        try:
            while True:
                yield await queue.get()
        finally:
            del _queues[queue]

    return EventSourceResponse(stream(), sep="\n")


async def order(request: Request) -> Response:
    """Carry out an order."""
    Order.parse(request.url.query).accept(_publish)
    return PlainTextResponse("ok")


async def page(request: Request) -> Response:
    """Answer an ordinary request."""
    return PlainTextResponse("ok")


async def _publish(numbers: range) -> None:
    for number in numbers:
        event = ServerSentEvent(id=id_of(number), data=text_of(number), sep="\n")
        for queue in _queues:
            queue.put_nowait(event)


application = Starlette(routes=[Route("/events/", events), Route("/order", order), Route("/page", page)])
