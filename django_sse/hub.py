"""The hub of one process and event loop.

It hears doorbells, owns the followers and every task that serves streams: the receive task, the tail
check, the heartbeat, the catch-up of streams. Streams themselves never await the layer or the history.
What it meets on the way is counted, for whoever operates it.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextvars import Context
from typing import Any, Final, Protocol

from channels.layers import BaseChannelLayer

from django_sse import layers
from django_sse.conf import get_settings
from django_sse.counters import Counters, Snapshot, published
from django_sse.exceptions import HistoryError
from django_sse.fan_out import FanOut
from django_sse.followers import GRACE, READ_LIMIT, Follower, Following, back_off
from django_sse.groups import Groups
from django_sse.history import BaseHistory, Gone, Page, get_history
from django_sse.open_streams import OpenStreams, Served
from django_sse.positions import Entry, Position
from django_sse.revocations import Revocations
from django_sse.topics import CONTROL_TOPIC

logger = logging.getLogger(__name__)

#: Seconds that a follower outlives its last stream: a page change must not cost a new start.
LINGER: Final = 30.0
#: Reads of the history for catching-up streams under way at once.
_READS: Final = 8


class Reader(Following, Protocol):
    """What catches up from the history: a stream of topics."""

    async def prepare(self) -> None:
        """Do what must happen before the next read."""

    def lagging(self) -> tuple[str, Position] | None:
        """Return what to read next from the history, None where there is no need or no room."""

    def take(self, topic: str, asked: Position, page: Page | Gone) -> None:
        """Take what was read after a position."""


class Hub:
    """Serves the streams of one event loop."""

    def __init__(self, *, history: BaseHistory, layer: BaseChannelLayer | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.history = history
        self.bell = None if layer is None else layers.LayerBell(layer)
        self.followers: dict[str, Follower] = {}
        #: Follows the control topic from before the first stream on.
        self.control: Follower | None = None
        self.settings = get_settings()
        self.streams = OpenStreams(self.settings)
        self.revocations = Revocations(self.streams)
        self.counters = Counters()
        self.fan_out = FanOut(self.loop)
        self.groups = None if layer is None else Groups(layer, prefix=self.settings.GROUP_PREFIX)
        self._idle: dict[str, float] = {}
        self._checked: float | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._reads = asyncio.Semaphore(_READS)
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

    @classmethod
    def all(cls) -> "list[Hub]":
        """Return the hubs of this process, one for each event loop that has one."""
        return [hub for hub in layers.listeners() if isinstance(hub, cls)]

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
        for begin in at_start:
            begin(self)
        self.spawn(self._beating())
        self.spawn(self._checking())
        self.spawn(self.history.tend(self._hear_position))
        if self.groups is not None:
            self.spawn(self.groups.receive(hear=self.hear_message, joined=self._heal))

    def snapshot(self) -> Snapshot:
        """Return what this hub serves now, and what it has counted."""
        counters = self.counters
        return Snapshot(
            streams=len(self.streams),
            followers=len(self.followers),
            opened=counters.opened,
            ends=dict(counters.ends),
            entries=counters.entries,
            heals=counters.heals,
            missed=counters.missed,
            spills=counters.spills,
            resets=dict(counters.resets),
            refusals=counters.refusals,
            unsent=0 if self.bell is None else self.bell.unsent,
            unversioned=published.unversioned,
            failed=published.failed,
            staleness=None if self._checked is None else self.loop.time() - self._checked,
        )

    # -- streams --------------------------------------------------------------------------------

    def add(self, stream: Served) -> None:
        """Serve a stream from now on."""
        self._run()
        self.streams.add(stream)

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
        if self.control is None:
            self.control = self._make_follower(CONTROL_TOPIC)
            self.control.streams[self.revocations] = None
        found = []
        for topic in topics:
            if (follower := self.followers.get(topic)) is None:
                follower = self.followers[topic] = self._make_follower(topic)
            follower.streams[stream] = None
            self._idle.pop(topic, None)
            found.append(follower)
        for follower in (self.control, *found):
            await follower.ready.wait()
        return found

    def _make_follower(self, topic: str) -> Follower:
        follower = Follower(
            topic, history=self.history, spawn=self.spawn, fan_out=self.fan_out, counters=self.counters
        )
        self.spawn(self._begin(follower))
        return follower

    def _follower(self, topic: str) -> Follower | None:
        return self.control if topic == CONTROL_TOPIC else self.followers.get(topic)

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
        if (follower := self._follower(entry.topic)) is not None:
            follower.hear(entry)

    def hear_message(self, message: dict[str, Any]) -> None:
        """Take a layer message, whatever it holds."""
        if (answer := answers.get(str(message.get("type")))) is not None:
            answer(self, message)
            return
        try:
            heard = layers.decode_message(message)
        except ValueError as error:
            logger.warning("Skipped: %.200s", error)  # it quotes what a stranger sent
            return
        if isinstance(heard, Entry):
            self.hear(heard)
        elif heard is not None:
            self._hear_position(*heard)

    def _hear_position(self, topic: str, position: Position) -> None:
        if (follower := self._follower(topic)) is not None:
            follower.hear_position(position)

    def _heal(self, topic: str) -> None:
        if (follower := self._follower(topic)) is not None:
            follower.heal()

    async def _begin(self, follower: Follower) -> None:
        # Join first, then take the tail: what comes between is announced, and kept by the follower.
        if self.groups is not None:
            await self.groups.join(follower.topic)
        await follower.start()

    # -- tickers --------------------------------------------------------------------------------

    async def _beating(self) -> None:
        pause = min(self.settings.HEARTBEAT / 2, self.settings.MAX_AGE / 5)
        while True:
            await asyncio.sleep(pause)
            now = self.loop.time()
            for stream in self.streams:
                try:
                    stream.beat(now)
                except Exception:
                    # One stream's fault must not end the ticker of the others.
                    logger.exception("A stream failed at its heartbeat")

    async def _checking(self) -> None:
        pause = self.settings.CHECK
        if self.groups is None:  # it may be the only doorbell of other processes
            pause = min(pause, self.history.check_every)
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  (not a secret)
            try:
                await self.check()
            except HistoryError:
                logger.warning("The tail check found no history")
            except Exception:
                logger.exception("The tail check failed")

    async def check(self) -> None:
        """Compare every follower with the history's tail, once; renew and leave groups that are due."""
        began = self.loop.time()
        followers = [*([] if self.control is None else [self.control]), *self.followers.values()]
        ready = [follower.topic for follower in followers if follower.ready.is_set()]
        tails = await self.history.atail(ready)
        self._checked = began
        for topic, tail in tails.items():
            follower = self._follower(topic)
            if follower is not None and not follower.check(tail) and self.groups is not None:
                # Nobody announced this tail, or not yet: the layer may have forgotten the group.
                self.groups.doubt(topic)
        for topic, since in list(self._idle.items()):
            if began - since >= LINGER and self.followers[topic].ready.is_set():
                del self.followers[topic], self._idle[topic]
                if self.groups is not None:
                    self.spawn(self.groups.leave(topic))
        is_renewing = self._renewing is not None and not self._renewing.done()
        if self.groups is not None and not is_renewing and (due := self.groups.due()):
            # Beside the check: a layer that hangs must not stop it.
            self._renewing = self.spawn(self.groups.renew(due))


#: What else begins with a hub's first stream: modules above this one register here.
at_start: dict[Callable[[Hub], None], None] = {}
#: What takes layer messages of other types than an entry's, likewise.
answers: dict[str, Callable[[Hub, Mapping[str, Any]], None]] = {}
