"""The doorbell.

An entry that stands in the history is announced, so that hubs need not poll: to the hubs of this
process directly, to those of other processes through the project's Channels layer. A doorbell may be
lost, doubled, late or forged; hubs trust it only as far as it follows from what they have.
"""

import asyncio
import atexit
import logging
import secrets
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from threading import Lock, Thread
from typing import Any, Final, Protocol

from channels.layers import BaseChannelLayer, InMemoryChannelLayer, get_channel_layer

from django_sse.conf import get_settings
from django_sse.exceptions import SSEError
from django_sse.forks import after_fork
from django_sse.positions import MAX_OFFSET, MAX_TAG, Entry, Position
from django_sse.topics import CONTROL_TOPIC, check_topic, group_name
from django_sse.wire import Event

logger = logging.getLogger(__name__)

MESSAGE_TYPE: Final = "sse.entry"
#: The largest event, in bytes, that a doorbell carries along: others are read from the history.
MAX_CARRIED = 8192
# Doorbells that wait for the layer; what does not fit is lost, and found by the tail check.
_MAX_WAITING = 1000
_TIMEOUT = 2.0


class Listener(Protocol):
    """What is woken in this process: a hub."""

    loop: asyncio.AbstractEventLoop
    bell: "LayerBell | None"

    def hear(self, entry: Entry) -> None:
        """Take an entry; called in the listener's loop."""


class _Process:
    """What this process has: its name in messages, and its listeners."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.reset()

    def reset(self) -> None:
        self.origin = secrets.token_hex(8)
        self.listeners: dict[asyncio.AbstractEventLoop, Listener] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: LayerBell | None = None

    def outside(self, layer: BaseChannelLayer, entry: Entry) -> None:
        """Ring through a layer from a loop of this process's own, in a thread that lives as long as it."""
        with self.lock:
            if self._loop is None:
                # A loop for each call would cost a connection each; here the first one costs a thread.
                self._loop = asyncio.new_event_loop()
                Thread(target=self._loop.run_forever, name="django_sse doorbell", daemon=True).start()
            if self._bell is None or self._bell.layer is not layer:
                self._bell = LayerBell(layer)
            loop, bell = self._loop, self._bell
        loop.call_soon_threadsafe(bell.ring, entry)

    def finish(self) -> None:
        """Give the last doorbells a moment: a command that sends and ends would take them with it."""
        if self._loop is not None and self._bell is not None:
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._bell.drain(), self._loop).result(_TIMEOUT)


_process = _Process()


def _after_fork() -> None:
    # The parent's loops do not run here, and its lock may have been held at the fork.
    _process.lock = Lock()
    _process.reset()


atexit.register(_process.finish)
after_fork(_after_fork)


def register(listener: Listener) -> None:
    """Wake this listener from now on, in place of any other of its event loop."""
    with _process.lock:
        _process.listeners = {
            loop: other for loop, other in _process.listeners.items() if not loop.is_closed()
        } | {listener.loop: listener}


def unregister(listener: Listener) -> None:
    """Wake this listener no more."""
    with _process.lock:
        _process.listeners = {
            loop: other for loop, other in _process.listeners.items() if other is not listener
        }


def listeners() -> list[Listener]:
    """Return all listeners of this process."""
    return list(_process.listeners.values())


def listener_of(loop: asyncio.AbstractEventLoop) -> Listener | None:
    """Return the listener of an event loop."""
    return _process.listeners.get(loop)


def ring(entry: Entry) -> bool:
    """Announce an entry from any thread, never blocking; tell whether this process has anybody to hear it."""
    listeners = _process.listeners  # replaced as a whole, so reading it needs no lock
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    for loop, listener in listeners.items():
        if loop is here:
            listener.hear(entry)
        else:
            _call(loop, listener.hear, entry)
    for loop, listener in listeners.items():
        if listener.bell is not None and not loop.is_closed():
            # One announcement per process, from whichever loop can send.
            if loop is here:
                listener.bell.ring(entry)
            else:
                _call(loop, listener.bell.ring, entry)
            return True
    if (layer := get_layer()) is not None:
        # A shell, a command, a worker: nobody here has a loop to send from.
        _process.outside(layer, entry)
    return bool(listeners)


def _call(loop: asyncio.AbstractEventLoop, function: Any, entry: Entry) -> None:
    try:
        loop.call_soon_threadsafe(function, entry)
    except RuntimeError:
        # The loop was closed meanwhile: nobody listens there any more.
        logger.debug("An event loop closed while it was being woken")


def get_layer() -> BaseChannelLayer | None:
    """Return the project's channel layer, None where it has none that reaches other processes.

    Channels' own in memory would only cost: it looks through all groups at each message.
    """
    layer = get_channel_layer(get_settings().CHANNEL_LAYER)
    return None if type(layer) is InMemoryChannelLayer else layer


def encode_message(entry: Entry) -> dict[str, Any]:
    """Return the layer message that announces an entry."""
    message: dict[str, Any] = {
        "type": MESSAGE_TYPE,
        "origin": _process.origin,
        "topic": entry.topic,
        "offset": entry.offset,
        "tag": entry.tag,
    }
    if len(entry.frame) <= MAX_CARRIED:
        message |= {
            "previous": entry.previous,
            "time": entry.time,
            "name": entry.event.name,
            "text": entry.event.text,
        }
    return message


def decode_message(message: Mapping[str, Any]) -> Entry | tuple[str, Position] | None:
    """Return the entry of a layer message, or the topic and position that it announces.

    None is this process's own echo. Raises ValueError for anything that `encode_message` would not
    have written: a layer may carry other programs' messages.
    """
    if message.get("type") != MESSAGE_TYPE:
        msg = f"a layer message of type {message.get('type')!r} is not ours"
        raise ValueError(msg)
    if message.get("origin") == _process.origin:
        return None
    try:
        topic = message["topic"]
        if topic != CONTROL_TOPIC:
            topic = check_topic(topic)
        offset, tag = _number(message["offset"], MAX_OFFSET), _number(message["tag"], MAX_TAG)
        if "text" not in message:
            return topic, Position(offset=offset, tag=tag)
        return Entry(
            topic=topic,
            offset=offset,
            tag=tag,
            previous=_number(message["previous"], MAX_TAG),
            time=float(message["time"]),
            event=Event(name=message["name"], text=message["text"]),
        )
    except (KeyError, TypeError, OverflowError, SSEError) as error:
        msg = f"a layer message is malformed: {error}"
        raise ValueError(msg) from error


def _number(value: object, maximum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        msg = f"{value!r} is not a whole number from 0 to {maximum}"
        raise TypeError(msg)
    return value


class LayerBell:
    """Sends doorbells into a channel layer from one event loop, in one task, best effort."""

    def __init__(self, layer: BaseChannelLayer) -> None:
        self.layer = layer
        #: Doorbells that the layer did not take.
        self.unsent = 0
        self._prefix = get_settings().GROUP_PREFIX
        self._waiting: deque[Entry] = deque(maxlen=_MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    def ring(self, entry: Entry) -> None:
        """Send one; called in the event loop."""
        self.unsent += len(self._waiting) == _MAX_WAITING  # the oldest gives way
        self._waiting.append(entry)
        if self._task is None or self._task.done():
            # An empty context: the publisher's request must not live on in it.
            self._task = asyncio.get_running_loop().create_task(self._send(), context=Context())

    async def _send(self) -> None:
        while self._waiting:
            entry = self._waiting.popleft()
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await self.layer.group_send(group_name(self._prefix, entry.topic), encode_message(entry))
            except Exception:
                # Whatever a layer raises: the history has the entry, the tail check will find it.
                self.unsent += 1
                logger.warning("The channel layer did not take a doorbell", exc_info=True)

    async def drain(self) -> None:
        """Wait until everything so far is sent, or lost."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
