"""A visit to the site under test, through Django's own ASGI handler or the lean one."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Self

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.db.backends.sqlite3.base import DatabaseWrapper

from django_sse.wire import Message, Parser

_PATIENCE = 10.0


def close_really(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the connections of requests as if the database were on disk: Django keeps one in memory."""
    main = threading.main_thread()
    monkeypatch.setattr(DatabaseWrapper, "is_in_memory_db", lambda _: threading.current_thread() is main)


class Visit:
    """One request, and its answer as far as it was read; at its end the client is gone.

    ``answered`` is false for a visit that may leave before it has an answer.
    """

    #: What makes the handler that answers.
    handler: ClassVar[Callable[[], Any]] = ASGIHandler

    def __init__(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        answered: bool = True,
    ) -> None:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode("latin-1"),
            "headers": [
                (name.lower().encode(), value.encode("latin-1"))
                for name, value in {"host": "testserver", **(headers or {})}.items()
            ],
        }
        self._communicator: Any = ApplicationCommunicator(type(self).handler(), scope)  # type: ignore[no-untyped-call]
        self._answered = answered
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.ended = False
        self.messages: list[Message] = []
        self.parser = Parser()
        self._unread: deque[Message] = deque()

    async def __aenter__(self) -> Self:
        """Ask, and wait for the head of the answer."""
        await self._communicator.send_input({"type": "http.request", "body": b"", "more_body": False})
        if self._answered:
            head = await self._communicator.receive_output(timeout=_PATIENCE)
            assert head["type"] == "http.response.start"
            self.status = head["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in head["headers"]}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Go away."""
        await self.leave()

    async def read(self) -> bytes:
        """Return the next part of the body; empty at its end."""
        message = await self._communicator.receive_output(timeout=_PATIENCE)
        assert message["type"] == "http.response.body"
        data = bytes(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        self.chunks.append(data)
        messages = list(self.parser.feed(data))
        self.messages += messages
        self._unread += messages
        return data

    async def event(self, name: str = "message") -> Message:
        """Return the next event of a name."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                while self._unread:
                    message = self._unread.popleft()
                    if message.name == name:
                        return message
                assert not self.ended, f"the stream ended without {name}: {self.body!r}"
                await self.read()

    async def rest(self) -> str:
        """Return the whole body, which ends by itself."""
        async with asyncio.timeout(_PATIENCE):
            while not self.ended:
                await self.read()
        return self.body

    @property
    def body(self) -> str:
        """What was read."""
        return b"".join(self.chunks).decode()

    @property
    def names(self) -> list[str]:
        """The names of the events that were read."""
        return [message.name for message in self.messages]

    async def leave(self) -> None:
        """Close the connection; raise what the application has raised."""
        if not self._communicator.future.done():
            await self._communicator.send_input({"type": "http.disconnect"})
        await self._communicator.wait(timeout=_PATIENCE)
