"""A connection to a browser that speaks WebDriver BiDi: commands, their answers, and events."""

import json
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

#: Seconds within which the browser answers a command.
PATIENCE = 30.0

Handler = Callable[[dict[str, Any]], None]


class CommandError(RuntimeError):
    """The browser refused a command, or did not answer."""


class Connection:
    """One session; everything happens in the thread that calls."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=PATIENCE)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._ids = count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._handlers: defaultdict[str, list[Handler]] = defaultdict(list)
        self._accepted = False
        self._text = ""
        self._write(Request(host=f"{host}:{port}", target="/session"))
        while not self._accepted:
            self._read(PATIENCE)
        self.command("session.new", capabilities={})

    def command(self, method: str, **params: Any) -> Any:
        """Give a command and return its result; events that come meanwhile are handled."""
        number = next(self._ids)
        self._write(TextMessage(data=json.dumps({"id": number, "method": method, "params": params})))
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:  # a handler may give commands too, and read our answer
            left = deadline - time.monotonic()
            if left <= 0:
                raise CommandError(f"no answer to {method} within {PATIENCE:.0f} s")
            self._read(left)
        answer = self._answers.pop(number)
        if answer["type"] == "error":
            raise CommandError(f"{method}: {answer['error']}: {answer['message']}")
        return answer["result"]

    def on(self, event: str, handler: Handler) -> Callable[[], None]:
        """Call this with the parameters of each such event from now on; return its undo."""
        self._handlers[event].append(handler)
        return lambda: self._handlers[event].remove(handler)

    def close(self) -> None:
        """Give the connection up."""
        self._socket.close()

    def _write(self, event: Event) -> None:
        self._socket.sendall(self._protocol.send(event))

    def _read(self, within: float) -> None:
        """Handle what comes next, if anything comes in time."""
        self._socket.settimeout(within)
        try:
            received = self._socket.recv(65536)
        except TimeoutError:
            return
        self._protocol.receive_data(received or None)
        for event in self._protocol.events():
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case AcceptConnection():
                self._accepted = True
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    message, self._text = json.loads(self._text), ""
                    self._dispatch(message)
            case Ping():
                self._write(event.response())
            case RejectConnection() | CloseConnection():
                raise CommandError(f"the browser ended the connection: {event!r}")

    def _dispatch(self, message: dict[str, Any]) -> None:
        if message["type"] == "event":
            for handler in list(self._handlers[message["method"]]):
                handler(message["params"])
        else:
            self._answers[message["id"]] = message
