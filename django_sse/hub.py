"""The hub of one process and event loop.

It hears doorbells, owns the followers and every task that serves streams: the receive task, the tail
check, the heartbeat, the catch-up of streams. Streams themselves never await the layer or the history.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Collection, Coroutine
from contextvars import Context
from typing import Any, Final, Protocol

from channels.layers import BaseChannelLayer

from django_sse import layers
from django_sse.conf import get_settings
from django_sse.exceptions import HistoryError
from django_sse.followers import GRACE, MAX_BACKOFF, READ_LIMIT, Follower, Following, back_off
from django_sse.history import BaseHistory, Gone, Page, get_history
from django_sse.positions import Entry, Position
from django_sse.topics import group_name

logger = logging.getLogger(__name__)

#: Seconds that a follower outlives its last stream: a page change must not cost a new start.
LINGER: Final = 30.0
#: Seconds after which a group membership is renewed; layers forget it after a day.
RENEW: Final = 3600.0
_RENEW_SLICE: Final = 100
#: Seconds that a layer may take to answer; it is a doorbell, and nothing waits for it longer.
_LAYER_TIMEOUT: Final = 2.0
#: Reads of the history for catching-up streams under way at once.
_READS: Final = 8
#: Streams flushed before the loop may turn to other work.
_FLUSH_SLICE: Final = 500


class Served(Protocol):
    """What a hub serves: any stream."""

    def flush(self) -> None:
        """Write what is queued."""

    def beat(self, now: float) -> None:
        """Write a heartbeat where it was silent; end where its time is over."""


class Reader(Following, Protocol):
    """What catches up from the history: a stream of topics."""

    async def prepare(self) -> None:
        """Do what must happen before the next read."""

    def lagging(self) -> tuple[str, Position] | None:
        """Return what to read next from the history, None where there is no need or no room."""

    def take(self, topic: str, asked: Position, page: Page | Gone) -> None:
        """Take what was read after a position."""


def _is_timeout(error: Exception) -> bool:
    """Tell whether nothing came for a while; what redis-py 8 raises then is no TimeoutError of Python's."""
    return any(kind.__name__ == "TimeoutError" for kind in type(error).__mro__)


class Hub:
    """Serves the streams of one event loop."""

    def __init__(self, *, history: BaseHistory, layer: BaseChannelLayer | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.history = history
        self.bell = None if layer is None else layers.LayerBell(layer)
        self.followers: dict[str, Follower] = {}
        self.streams: dict[Served, None] = {}
        self.settings = get_settings()
        self._layer = layer
        self._channel: str | None = None
        self._joined: dict[str, float] = {}
        self._idle: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._reads = asyncio.Semaphore(_READS)
        self._unflushed: deque[Served] = deque()
        self._running = False
        self._renewing: asyncio.Task[Any] | None = None

    @classmethod
    def current(cls) -> "Hub":
        """Return the running event loop's hub, made where it has none."""
        hub = layers.listener_of(asyncio.get_running_loop())
        history = get_history()
        if not isinstance(hub, cls) or hub.history is not history:
            hub = cls(history=history, layer=layers.get_layer())
            layers.register(hub)
        return hub

    # -- tasks ----------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None], *, context: Context | None = None) -> asyncio.Task[Any]:
        """Run a task that this hub owns.

        Without a context it runs in an empty one: in that of the request which happened to start it, it
        would keep the request's thread alive, or lose it in the middle.
        """
        context = Context() if context is None else context
        task = self.loop.create_task(work, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._done, context=context)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A task of the hub failed", exc_info=error)

    async def close(self) -> None:
        """End every task of this hub; it hears nothing any more."""
        layers.unregister(self)
        if self.bell is not None:
            self.bell.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        self.spawn(self._beating())
        self.spawn(self._checking())
        if self._layer is not None:
            self.spawn(self._receiving(self._layer))

    # -- streams --------------------------------------------------------------------------------

    def add(self, stream: Served) -> None:
        """Serve a stream from now on."""
        self._run()
        self.streams[stream] = None

    def discard(self, stream: Served) -> None:
        """Serve a stream no more."""
        self.streams.pop(stream, None)

    def unfollow(self, stream: Following, topics: Collection[str]) -> None:
        """Undo what `follow` did."""
        for topic in topics:
            follower = self.followers.get(topic)
            if follower is not None and stream in follower.streams:
                del follower.streams[stream]
                if not follower.streams:
                    self._idle[topic] = self.loop.time()

    async def follow(self, stream: Following, topics: Collection[str]) -> list[Follower]:
        """Return the followers of these topics, which have their positions, and now this stream."""
        found = []
        for topic in topics:
            follower = self.followers.get(topic)
            if follower is None:
                follower = Follower(topic, history=self.history, spawn=self.spawn)
                self.followers[topic] = follower
                self.spawn(self._begin(follower))
            follower.streams[stream] = None
            self._idle.pop(topic, None)
            found.append(follower)
        for follower in found:
            await follower.ready.wait()
        return found

    def schedule(self, stream: Served) -> None:
        """Flush a stream once in the next turn of the loop."""
        if not self._unflushed:
            self.loop.call_soon(self._flush)
        self._unflushed.append(stream)

    def _flush(self) -> None:
        for _ in range(min(len(self._unflushed), _FLUSH_SLICE)):
            stream = self._unflushed.popleft()
            try:
                stream.flush()
            except Exception:
                # One stream's fault must not keep the others waiting.
                logger.exception("A stream failed to flush")
        if self._unflushed:
            # A fan-out to thousands yields here, so that other requests are served.
            self.loop.call_soon(self._flush)

    async def catch_up(self, stream: Reader) -> None:
        """Feed a stream from the history until it has enough."""
        delay = GRACE
        await stream.prepare()
        while (wanted := stream.lagging()) is not None:
            topic, position = wanted
            try:
                # The slot is held for the read alone, never while waiting for a client.
                async with self._reads:
                    page = await self.history.read(topic, position, limit=READ_LIMIT)
            except Exception as error:  # noqa: BLE001  (back_off logs it)
                # Also what no history should raise: the stream stays open, and behind, never silent.
                delay = await back_off(error, delay)
                continue
            delay = GRACE
            stream.take(topic, position, page)
            await asyncio.sleep(0)  # a history in memory would let nobody else run
            await stream.prepare()

    # -- the doorbell ---------------------------------------------------------------------------

    def hear(self, entry: Entry) -> None:
        """Take an entry that this process or another has appended."""
        follower = self.followers.get(entry.topic)
        if follower is not None:
            follower.hear(entry)

    def hear_message(self, message: dict[str, Any]) -> None:
        """Take a layer message, whatever it holds."""
        try:
            heard = layers.decode_message(message)
        except ValueError as error:
            logger.warning("Skipped: %.200s", error)  # it quotes what a stranger sent
            return
        if isinstance(heard, Entry):
            self.hear(heard)
        elif heard is not None:
            topic, position = heard
            follower = self.followers.get(topic)
            if follower is not None:
                follower.hear_position(position)

    async def _receiving(self, layer: BaseChannelLayer) -> None:
        # Cancelling or timing out receive() loses messages, so this one task lives as long as the hub.
        delay, joined = GRACE, False
        while True:
            try:
                if self._channel is None:
                    self._channel = await layer.new_channel()
                if not joined:
                    joined = True
                    for follower in list(self.followers.values()):
                        await self._join(follower.topic)
                        follower.heal()  # what was announced before is read
                self.hear_message(await layer.receive(self._channel))
                delay = GRACE
            except Exception as error:
                if _is_timeout(error):
                    await asyncio.sleep(GRACE)
                    continue
                logger.warning("The channel layer failed; trying again in %.2f s", delay, exc_info=True)
                # It may have forgotten the channel's groups: join them again.
                joined = False
                await asyncio.sleep(delay)
                delay = min(delay * 2, MAX_BACKOFF)

    # -- groups ---------------------------------------------------------------------------------

    async def _begin(self, follower: Follower) -> None:
        # Join first, then take the tail: what comes between is announced, and kept by the follower.
        await self._join(follower.topic)
        await follower.start()

    async def _join(self, topic: str) -> None:
        if self._layer is None or self._channel is None:
            return  # the receive task joins every topic, and heals it, when it has a channel
        group = group_name(self.settings.GROUP_PREFIX, topic)
        try:
            async with asyncio.timeout(_LAYER_TIMEOUT):
                await self._layer.group_add(group, self._channel)
                if topic in self.followers:
                    self._joined[topic] = self.loop.time()
                else:
                    # The last stream left while a renewal joined.
                    await self._layer.group_discard(group, self._channel)
        except Exception:
            # Whatever a layer raises: the tail check bounds what this costs, and the renewal mends it soon.
            self._joined.pop(topic, None)
            logger.warning("A group could not be joined", exc_info=True)

    async def _leave(self, follower: Follower) -> None:
        topic = follower.topic
        try:
            if self._layer is not None and self._channel is not None:
                async with asyncio.timeout(_LAYER_TIMEOUT):
                    await self._layer.group_discard(
                        group_name(self.settings.GROUP_PREFIX, topic), self._channel
                    )
        except Exception:
            logger.warning("A group could not be left", exc_info=True)
        if follower.streams:
            # Somebody came while we left: join again, and read what was missed meanwhile.
            await self._join(topic)
            follower.heal()
        else:
            del self.followers[topic]
            self._joined.pop(topic, None)
            self._idle.pop(topic, None)
        self._leaving.discard(topic)

    # -- tickers --------------------------------------------------------------------------------

    async def _beating(self) -> None:
        pause = min(self.settings.HEARTBEAT / 2, self.settings.MAX_AGE / 5)
        while True:
            await asyncio.sleep(pause)
            now = self.loop.time()
            for stream in list(self.streams):
                try:
                    stream.beat(now)
                except Exception:
                    # One stream's fault must not end the ticker of the others.
                    logger.exception("A stream failed at its heartbeat")

    async def _checking(self) -> None:
        while True:
            await asyncio.sleep(self.settings.CHECK * random.uniform(0.8, 1.2))  # noqa: S311  (not a secret)
            try:
                await self.check()
            except HistoryError:
                logger.warning("The tail check found no history")
            except Exception:
                logger.exception("The tail check failed")

    async def check(self) -> None:
        """Compare every follower with the history's tail, once; renew and leave groups that are due."""
        ready = [topic for topic, follower in self.followers.items() if follower.ready.is_set()]
        tails = await self.history.atail(ready)
        for topic, tail in tails.items():
            if (follower := self.followers.get(topic)) is not None:
                follower.check(tail)
        now = self.loop.time()
        for topic, since in list(self._idle.items()):
            if now - since >= LINGER and topic not in self._leaving and self.followers[topic].ready.is_set():
                self._leaving.add(topic)
                self.spawn(self._leave(self.followers[topic]))
        if self._channel is not None:
            due = [topic for topic in ready if now - self._joined.get(topic, -RENEW) >= RENEW]
            if due and (self._renewing is None or self._renewing.done()):
                # Beside the check: a layer that hangs must not stop it.
                self._renewing = self.spawn(self._renew(due[:_RENEW_SLICE]))

    async def _renew(self, due: list[str]) -> None:
        for topic in due:
            if topic in self.followers and topic not in self._leaving:
                await self._join(topic)
