"""Ending every stream when the server is asked to stop.

Servers wait for open responses before they stop, some of them for ever, and a stream has no end of its
own; they tell applications of a shutdown (ASGI's lifespan) only behind that wait. So a process that has
streams is in front of its server's signal handlers: every stream ends, its clients are told when to come
back, and then the server's own handler goes on.
"""

import asyncio
import atexit
import logging
import signal
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from time import monotonic
from types import FrameType
from typing import Any, Final

from django_sse import hub as hubs
from django_sse.hub import Hub

logger = logging.getLogger(__name__)

#: Seconds that slow clients have after the last one that was quick; the others do not wait for them.
GRACE: Final = 0.5
#: Seconds between two looks whether everything has left.
_LOOK: Final = 0.01
#: SIGQUIT is how gunicorn tells its workers of a SIGINT; SIGBREAK is Windows's Ctrl-Break.
_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGBREAK") if hasattr(signal, name)
)

_previous: dict[int, Callable[[int, FrameType | None], Any]] = {}


async def drain(hub: Hub) -> None:
    """End every stream of a hub, and return when they have left; new ones are sent away politely."""
    hub.streams.closed = True
    streams = list(hub.streams)
    hub.streams.end(streams, "shutdown")
    deadline = monotonic() + GRACE
    while streams and monotonic() < deadline:
        # Only servers know when; they tell each response in its own way.
        await _pause()
        left = [stream for stream in streams if not stream.is_gone]
        if len(left) < len(streams):  # thousands take their time; who is stalled is left behind
            deadline = monotonic() + GRACE
        streams = left
    for stream in streams:
        stream.abort()
    if streams:
        logger.info("%d clients were too slow to be told of the shutdown", len(streams))


async def _pause() -> None:
    await asyncio.sleep(_LOOK)


def prepare() -> None:
    """Be asked when the first stream opens, and by servers that tell nobody else."""
    hubs.at_start[watch] = None
    _hook_hypercorn()
    atexit.register(_at_exit)


def watch(_: Hub) -> None:
    """Go in front of the signal handlers of this hub's server."""
    if threading.current_thread() is not threading.main_thread():
        return  # a server in a thread hears of no signal; Django's autoreloader ends by `_at_exit`
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        # Where it is the system's default, or ignored, nobody would stop in order.
        if callable(handler) and handler is not _on_signal:
            _previous[number] = handler
            signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    open_hubs = _open_hubs()
    if not open_hubs:  # all have ended, or this is a second signal: somebody is impatient
        _previous[number](number, frame)
        return
    here = next((hub for hub in open_hubs if hub.loop is _running_loop()), open_hubs[0])
    here.loop.call_soon_threadsafe(_stop, here, number)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _stop(hub: Hub, number: int) -> None:
    hub.spawn(_drain_then(number))


async def _drain_then(number: int) -> None:
    waiting = [asyncio.wrap_future(future) for future in _drain_all()]
    await asyncio.gather(*waiting, return_exceptions=True)
    # Not from this task, which the server's handler may cancel.
    asyncio.get_running_loop().call_soon(_previous[number], number, None)


def _at_exit() -> None:
    """End what is served from a thread that ends with the process, as under Django's autoreloader."""
    futures.wait(_drain_all(), timeout=2 * GRACE)


def _drain_all() -> list["futures.Future[None]"]:
    return [asyncio.run_coroutine_threadsafe(drain(hub), hub.loop) for hub in _open_hubs()]


def _open_hubs() -> list[Hub]:
    return [hub for hub in Hub.all() if hub.loop.is_running() and not hub.streams.closed]


def _hook_hypercorn() -> None:
    """Be asked before hypercorn's shutdown: its workers get no signals, they look at a shared event."""
    module: Any = sys.modules.get("hypercorn.asyncio.run")
    raise_shutdown = getattr(module, "raise_shutdown", None)
    if raise_shutdown is None:
        return

    async def drain_and_raise(shutdown_event: Callable[..., Any]) -> None:
        async def wait() -> None:
            await shutdown_event()
            for hub in _open_hubs():
                if hub.loop is asyncio.get_running_loop():
                    await drain(hub)

        await raise_shutdown(wait)

    module.raise_shutdown = drain_and_raise
