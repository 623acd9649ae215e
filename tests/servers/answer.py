"""The smallest ASGI application: it answers; under /endless it never stops answering."""

import asyncio

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, Scope


async def application(
    scope: Scope,
    receive: ASGIReceiveCallable,  # daphne passes it by its name
    send: ASGISendCallable,
) -> None:
    """Answer every request with its path."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])  # what servers expect where there is no lifespan
    await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": False})
    endless = scope["path"] == "/endless"
    body = scope["path"].encode()
    await send({"type": "http.response.body", "body": body, "more_body": endless})
    if endless:
        await asyncio.Event().wait()
