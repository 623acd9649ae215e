"""Many clients in one loop over epoll: as cheap as Python allows, and exact about what they miss."""

import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

_EVENT = re.compile(rb"data: ?(\d{8}) (\d{15}\.\d{9})\r?\n")


class FleetError(RuntimeError):
    """A server ended a connection, refused it, or did not do what was awaited in time."""


class _Client:
    """One connection, and the number of the event that it waits for."""

    __slots__ = ("expected", "fd", "is_open", "missing", "sock", "tail")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.tail = b""
        self.is_open = False
        self.expected = 0
        self.missing: set[int] = set()


class Fleet:
    """Connections to one server, all read by whoever calls `run`."""

    def __init__(self, address: tuple[str, int], *, opened: bytes) -> None:
        #: Deliveries so far, and those of them that came late or twice.
        self.total = self.disordered = 0
        #: Seconds from making to arrival, where they are wanted.
        self.delays: list[float] | None = None
        self._address = address
        self._opened = opened
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._opening: set[int] = set()
        self._waiting: deque[str] = deque()

    def __len__(self) -> int:
        return len(self._clients)

    def open(self, paths: Sequence[str], *, at_once: int, within: float) -> None:
        """Open a stream for each path, so many at once; return when the last one has begun."""
        self._waiting.extend(paths)
        while len(self._opening) < at_once and self._waiting:
            self.connect(self._waiting.popleft())
        self.run(lambda: not self._opening, within=within)

    def run(self, until: Callable[[], bool], *, within: float) -> None:
        """Read until a condition holds; raise FleetError when it does not in time."""
        deadline = time.monotonic() + within
        while not until():
            if time.monotonic() > deadline:
                raise FleetError(f"{self.total} deliveries, {len(self._opening)} still opening in {within} s")
            for fd, _ in self._poll.poll(0.05):
                self._read(self._clients[fd])

    @property
    def lost(self) -> int:
        """How many events were overtaken and never came."""
        return sum(len(client.missing) for client in self._clients.values())

    def expect(self, number: int) -> None:
        """Have all clients wait for this event next."""
        for client in self._clients.values():
            client.expected = number

    def close(self) -> None:
        """Leave."""
        for client in self._clients.values():
            client.sock.close()
        self._clients.clear()
        self._poll.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, path: str) -> None:
        """Ask for a stream."""
        sock = socket.create_connection(self._address, timeout=30)
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {self._address[0]}\r\nAccept: text/event-stream\r\n\r\n".encode()
        )
        sock.setblocking(False)  # noqa: FBT003  (its only argument)
        client = self._clients[sock.fileno()] = _Client(sock)
        self._opening.add(client.fd)
        self._poll.register(client.fd, select.EPOLLIN)

    def _read(self, client: _Client) -> None:
        try:
            data = client.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            raise FleetError(f"a connection failed, after {client.tail[-200:]!r}") from error
        if not data:
            raise FleetError(f"the server ended a stream, after {client.tail[-200:]!r}")
        if not client.is_open:
            self._begin(client, data)
            return
        lines, end, client.tail = (client.tail + data).rpartition(b"\n")
        for number, made in _EVENT.findall(lines + end):
            self.total += 1
            if int(number) == client.expected:
                client.expected += 1
            elif int(number) > client.expected:
                client.missing.update(range(client.expected, int(number)))
                client.expected = int(number) + 1
            else:
                client.missing.discard(int(number))
                self.disordered += 1
            if self.delays is not None:
                self.delays.append(time.monotonic() - float(made))

    def _begin(self, client: _Client, data: bytes) -> None:
        client.tail += data
        head, _, body = client.tail.partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0] and body:
            raise FleetError(f"refused: {client.tail[:200]!r}")
        if self._opened in client.tail:
            client.is_open, client.tail = True, b""
            self._opening.remove(client.fd)
            if self._waiting:
                self.connect(self._waiting.popleft())
