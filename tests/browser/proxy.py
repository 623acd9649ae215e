"""A proxy between a browser and the site, which makes the faults of everyday networks.

A browser's own tools do not see what a SharedWorker requests: tests count and spoil streams here.
Each connection carries one request: what the browser has open is what stands in `requests` without an end.
"""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

from tests.servers.process import becomes_true

STREAM: Final = "/events/"
PATIENCE: Final = 10.0
#: In which a browser closes a stream and opens another: the two connections take ways of their own.
MOMENT: Final = 0.25
#: A closing connection of this option sends a reset, and no goodbye.
RESET: Final = struct.pack("ii", 1, 0)
_HEAD_ENDS: Final = b"\r\n\r\n"


@dataclass(kw_only=True, eq=False)
class Request:
    """What the browser asked, and what became of it; all times are of `time.monotonic()`."""

    target: str
    headers: Mapping[str, str]
    began: float = field(default_factory=time.monotonic)
    #: What was answered, None until then.
    status: int | None = None
    answered: float | None = None
    ended: float | None = None
    #: Whether nothing more is passed to the browser, whose connection stays.
    silent: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        """The values of each name in the query."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def last_event_id(self) -> str:
        """The position from which the stream is to go on."""
        return self.query.get("lastEventId", [""])[0] or self.headers.get("last-event-id", "")

    @property
    def open(self) -> bool:
        """Whether it was answered as a stream is, and has not ended."""
        return self.status == 200 and self.ended is None

    def answer(self, status: int) -> None:
        """Note that the answer began."""
        self.status, self.answered = status, time.monotonic()

    def end(self) -> None:
        """Note that the connection is gone."""
        self.ended = self.ended or time.monotonic()

    def fall_silent(self) -> None:
        """Pass nothing more."""
        self.silent = True


@dataclass(kw_only=True, eq=False)
class Fault:
    """What happens to requests of a path; without a status they are passed on, and go silent."""

    path: str = STREAM
    when: Callable[[Request], bool] = lambda request: True
    #: To how many it happens; None is all.
    times: int | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The answer's body, sent in these pieces.
    pieces: Sequence[bytes] = ()
    #: What of a silent answer is held back.
    held: Literal["answer", "body"] = "answer"

    def applies(self, request: Request) -> bool:
        """Whether this request is to be spoiled."""
        return self.times != 0 and request.path == self.path and self.when(request)


class Proxy:
    """A proxy in a thread of its own, on a free port of this machine; a context manager."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = 0
        self.requests: list[Request] = []
        self._site = (host, port)
        self._faults: list[Fault] = []
        self._writers: dict[Request, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy")

    @property
    def base_url(self) -> str:
        """Where the browser finds the site, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def streams(self) -> list[Request]:
        """The requests of streams."""
        return self.requests_of(STREAM)

    @property
    def open_streams(self) -> list[Request]:
        """The streams that are open now."""
        return [request for request in self.streams if request.open]

    def requests_of(self, path: str) -> list[Request]:
        """Return the requests of a path."""
        return [request for request in list(self.requests) if request.path == path]

    def most_at_once(self) -> int:
        """Return how many streams were open at most at one time, for longer than a moment."""
        changes: list[tuple[float, int]] = []
        for request in self.streams:
            began, ended = (request.answered or 0) + MOMENT, request.ended or float("inf")
            if request.status == 200 and began < ended:
                changes += [(began, 1), (ended, -1)]
        return max(accumulate(change for _, change in sorted(changes)), default=0)

    def wait_for(self, condition: Callable[[], object], *, within: float = PATIENCE) -> None:
        """Wait until a condition of the proxy holds."""
        if not becomes_true(lambda: bool(condition()), within=within):
            raise AssertionError(f"this did not come within {within} s; streams: {self.streams}")

    def answer(self, status: int = 200, **fault: Any) -> None:
        """Answer this in place of the site (fields of Fault), until `mend`; the status 0 is a reset."""
        self._faults.append(Fault(status=status, **fault))

    def hold(self, held: Literal["answer", "body"], **fault: Any) -> None:
        """Hold back the answers, or what comes behind their headers, until `mend`."""
        self._faults.append(Fault(held=held, **fault))

    def mend(self) -> None:
        """Pass on whatever comes from now on."""
        self._faults.clear()

    def drop(self) -> None:
        """Reset the connections of all streams at once."""
        self._for_streams(lambda stream: _reset(stream, self._writers[stream]))

    def deploy(self, *refusals: int) -> None:
        """Drop all streams, and answer so to the next requests, 0 being no answer; then all is well."""
        for status in refusals:
            self.answer(status, times=1)
        self.drop()

    def silence(self) -> None:
        """Pass nothing more of the streams that there are, and keep their connections."""
        self._for_streams(Request.fall_silent)

    def close(self) -> None:
        """End every connection, and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE)

    def _for_streams(self, act: Callable[[Request], None]) -> None:
        async def call() -> None:
            for stream in self.streams:
                if stream in self._writers:
                    act(stream)

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        await _end(*self._tasks)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._handle(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Browsers open connections in advance, and then need them not.
            with suppress(OSError, asyncio.IncompleteReadError):
                request, head = _read_request(await reader.readuntil(_HEAD_ENDS))
                self.requests.append(request)
                self._writers[request] = writer
                try:
                    await self._treat(request, head, reader, writer)
                finally:
                    request.end()
                    del self._writers[request]
        finally:
            writer.close()

    async def _treat(
        self, request: Request, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fault = next((fault for fault in self._faults if fault.applies(request)), None)
        if fault and fault.times:
            fault.times -= 1
        if fault and fault.status is not None:
            await _answer(request, fault, writer)
            return
        site_reader, site_writer = await asyncio.open_connection(*self._site)
        site_writer.write(head)
        there = asyncio.create_task(_pass_on(request, reader, site_writer))
        back = asyncio.create_task(_pass_back(request, fault, site_reader, writer))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            site_writer.close()
            await _end(there, back)


def _read_request(head: bytes) -> tuple[Request, bytes]:
    """Return the request of a head, and the head as the site gets it, which is to close the connection."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    _method, target, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(target=target, headers=headers), _closing(head)


def _closing(head: bytes) -> bytes:
    first, *lines = head.removesuffix(_HEAD_ENDS).split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"connection:", b"keep-alive:"))]
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])


async def _answer(request: Request, fault: Fault, writer: asyncio.StreamWriter) -> None:
    request.answer(fault.status or 0)
    if not fault.status:
        _reset(request, writer)
        return
    fields = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", **fault.headers}
    lines = [f"HTTP/1.1 {fault.status} As-told", *(f"{name}: {value}" for name, value in fields.items())]
    for piece in ("\r\n".join([*lines, "Connection: close\r\n\r\n"]).encode(), *fault.pieces):
        writer.write(piece)
        await writer.drain()


def _reset(request: Request, writer: asyncio.StreamWriter) -> None:
    request.end()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def _pass_back(
    request: Request, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    head = await reader.readuntil(_HEAD_ENDS)
    if fault is None or fault.held == "body":
        request.answer(int(head.split(b" ", 2)[1]))
        writer.write(_closing(head))
    request.silent = request.silent or fault is not None
    while data := await reader.read(65536):
        if not request.silent:
            writer.write(data)
            await writer.drain()
    if request.silent:
        await asyncio.Event().wait()  # until the browser goes


async def _pass_on(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        request.end()  # at once: what is begun in the next moment does not overlap


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
