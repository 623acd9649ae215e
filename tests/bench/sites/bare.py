"""The limit: an ASGI application that knows nothing, and hands each event to every `send`."""

from typing import Any

from tests.bench.sites.order import Order, id_of, text_of

_sends: dict[Any, None] = {}
HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache, no-transform")]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve a stream, carry out an order, or answer with a page."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await receive()
    if scope["path"] == "/events/":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b"event: open\ndata:\n\n", "more_body": True})
        _sends[send] = None
        try:
            await receive()
        finally:
            del _sends[send]
        return
    if scope["path"] == "/order":
        Order.parse(scope["query_string"].decode()).accept(_publish)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def _publish(numbers: range) -> None:
    blocks = [f"id: {id_of(number)}\ndata: {text_of(number)}\n\n" for number in numbers]
    body = "".join(blocks).encode()
    for send in list(_sends):
        await send({"type": "http.response.body", "body": body, "more_body": True})
