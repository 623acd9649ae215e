"""A client of one stream: an outlet that can stall, and be cut off."""

import asyncio
from random import Random

from django_sse.streams import BaseStream
from django_sse.wire import Message, Parser


class Client:
    """Reads a stream as a browser does, one write per turn of the loop, unless it stalls."""

    def __init__(self, stream: BaseStream, *, stalled: bool = False, last_event_id: str = "") -> None:
        self.stream = stream
        self.stalled = stalled
        self.free = not stalled
        self.finished = self.aborted = False
        self.writes: list[bytes] = []
        self.messages: list[Message] = []
        self.parser = Parser(last_event_id=last_event_id)
        self._unread = b""
        self._loop = asyncio.get_running_loop()

    def open(self) -> "Client":
        """Open the stream, and return itself."""
        self.stream.open(self)
        return self

    # -- what a stream sees ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Take a write, and be busy until the next turn, or while stalled."""
        assert self.free, "a stream wrote to an outlet that was not free"
        assert not self.finished, "a stream wrote behind its end"
        assert data, "a stream wrote nothing"
        self.free = False
        self.writes.append(data)
        self._unread = data
        if not self.stalled:
            self._loop.call_soon(self._read)

    def finish(self) -> None:
        """Note the end."""
        self.finished = True

    def abort(self) -> None:
        """Note the end, which comes too soon for what is on its way."""
        self.aborted = self.finished = True

    # -- what a test does -----------------------------------------------------------------------

    def stall(self) -> None:
        """Read no more."""
        self.stalled = True

    def read(self) -> None:
        """Read on."""
        if self.stalled:
            self.stalled = False
            self._loop.call_soon(self._read)

    def cut(self, random: Random | None = None) -> str:
        """Lose the connection, somewhere in what was not read yet; return the last id that was seen."""
        received = len(self._unread) if random is None else random.randint(0, len(self._unread))
        self._parse(self._unread[:received])
        self._unread = b""
        self.stalled, self.free = True, False
        self.stream.close()
        return self.parser.last_event_id

    def _read(self) -> None:
        if self.stalled or self.free:
            return
        self._parse(self._unread)
        self._unread = b""
        if not self.finished:
            self.free = True
            self.stream.flush()

    def _parse(self, data: bytes) -> None:
        self.messages += self.parser.feed(data)

    @property
    def done(self) -> bool:
        """Whether it has read everything to the end."""
        return self.finished and not self._unread

    # -- what it has received -------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The names of all events, in order."""
        return [message.name for message in self.messages]

    @property
    def texts(self) -> list[str]:
        """The texts of the project's events, in order."""
        return [message.text for message in self.messages if not message.name.startswith("sse-")]

    def named(self, name: str) -> list[str]:
        """Return the texts of the events of a name."""
        return [message.text for message in self.messages if message.name == name]

    def of(self, topic: str) -> list[str]:
        """Return the texts that begin with a topic's name, in order."""
        return [text for text in self.texts if text.startswith(f"{topic}:")]
