"""The processes of a world, each with its hub, and the pipes that lead from them to clients."""

import asyncio
from dataclasses import replace

from django_sse import layers
from django_sse.positions import Cursor, Entry
from django_sse.streams import Stream
from django_sse.topics import CONTROL_TOPIC
from tests.simulation.cast import Cast
from tests.simulation.history import WorldHistory
from tests.simulation.layer import Bus, WorldLayer


class Pipe:
    """An outlet that is free while its reader waits, and may break."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.broken = False
        self.finished = False
        self._wanted: asyncio.Future[bytes] | None = None

    @property
    def free(self) -> bool:
        """Whether the reader waits."""
        return self._wanted is not None and not self._wanted.done()

    def write(self, data: bytes) -> None:
        """Give bytes to the reader."""
        assert self._wanted is not None, "a stream wrote to an outlet that was not free"
        assert not self.finished, "a stream wrote behind its end"
        assert data, "a stream wrote nothing"
        self._wanted.set_result(data)

    def finish(self) -> None:
        """End politely."""
        self.finished = True
        self._wake()

    @property
    def done(self) -> bool:
        """Whether nothing is under way any more."""
        return self.finished or self.broken

    def cut(self) -> None:
        """End in the middle of what is under way."""
        self.broken = True
        self._wake()

    abort = cut

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(b"")

    async def read(self) -> bytes:
        """Wait for the next write; nothing comes where the pipe has ended."""
        if self.broken or self.finished:
            return b""
        self._wanted = asyncio.get_running_loop().create_future()
        try:
            self.stream.flush()
            return await self._wanted
        finally:
            self._wanted = None


class Process:
    """One process: it has a hub, and lives until it crashes."""

    def __init__(self, name: str, *, cast: Cast, history: WorldHistory, bus: Bus) -> None:
        self.name = name
        self.alive = True
        self.layer = WorldLayer(bus, name)
        self.hub = cast.hub(history=history, layer=self.layer)
        self._stream = cast.stream
        self._pipes: dict[Pipe, None] = {}

    def _run(self) -> None:
        """Be the process that runs: an event loop has one hub, and this world but one event loop."""
        layers.register(self.hub)

    def serve(self, topics: tuple[str, ...], *, cursor: Cursor | None, max_pending: int) -> Pipe:
        """Open a stream."""
        settings = replace(self.hub.settings, MAX_PENDING=max_pending)
        pipe = Pipe(self._stream(topics, settings=settings, cursor=cursor))
        self._pipes[pipe] = None
        self._run()
        pipe.stream.open(pipe)
        return pipe

    def leave(self, pipe: Pipe) -> None:
        """Close a stream: its client is gone."""
        pipe.stream.close()
        self._pipes.pop(pipe, None)

    def ring(self, entry: Entry) -> None:
        """Announce an entry to the own hub and the others, by the way that the product has."""
        self._run()
        layers.ring(entry)

    def crash(self) -> asyncio.Task[None]:
        """Die: connections break, tasks end, the layer's channel is gone."""
        self.alive = False
        for pipe in self._pipes:
            pipe.cut()
        self.layer.crash()
        return asyncio.get_running_loop().create_task(self.hub.close())

    def remains(self) -> list[str]:
        """Return what has not ended, long after the last client left."""
        hub = self.hub
        held: dict[str, list[object]] = {"streams": [*hub.streams], "followers": [*hub.followers]}
        assert hub.groups is not None
        held |= {"idle": [*hub._idle], "joined": [*hub.groups.joined], "wanted": [*hub.groups._wanted]}
        # The control topic is followed as long as the hub lives.
        left = [f"{name}: {values}" for name, values in held.items() if set(values) - {CONTROL_TOPIC}]
        # They receive, check, beat and ask again; and may just renew the one group that stays.
        tasks = [task for task in hub._tasks if task is not hub._renewing]
        if len(tasks) > 4:
            left.append(f"{len(tasks)} tasks")
        return left
