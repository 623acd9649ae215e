"""A server program under test: on a free port of this machine, and always ended."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

ROOT: Final = Path(__file__).resolve().parent.parent.parent
LEASH: Final = Path(__file__).with_name("leash.py")

Kind = Literal["daphne", "uvicorn", "hypercorn", "granian", "gunicorn"]
COMMANDS: Final[Mapping[Kind, str]] = {
    "daphne": "daphne --bind {host} --port {port} {application}",
    "uvicorn": "uvicorn --host {host} --port {port} {application}",
    "hypercorn": "hypercorn --bind {host}:{port} {application}",
    "granian": "granian --interface asgi --host {host} --port {port} {application}",
    "gunicorn": "gunicorn --worker-class asgi --no-control-socket --bind {host}:{port} {application}",
}


class StartError(RuntimeError):
    """The server ended, or did not answer in time; the message ends with its log."""


@dataclass(kw_only=True, slots=True, eq=False)
class ServerProcess:
    """An ASGI server in a process group of its own; a context manager that starts and ends it."""

    kind: Kind
    log: Path
    application: str = "testproject.asgi:application"
    settings: str = "testproject.settings"
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def base_url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process started, which also is the id of its process group."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def start(self, *, within: float = 30) -> Self:
        """Start it and wait until it answers; raise StartError when it does not."""
        for attempt in range(3):
            try:
                self._spawn()
                self._wait_until_it_answers(within)
            except BaseException:
                self.stop(grace=0)
                # Between finding the port free and the server's bind, somebody else may have taken it.
                if attempt < 2 and "in use" in self.tail():
                    continue
                raise
            break
        return self

    def stop(self, *, grace: float = 5) -> bool:
        """End its group by SIGTERM, or after `grace` seconds by SIGKILL; tell whether SIGTERM was enough."""
        if self._process is None:
            return True
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            if self.group():
                os.killpg(self._process.pid, number)
            if becomes_true(lambda: not self.group(), within=patience):
                self._process.wait()
                return number is signal.SIGTERM
        raise RuntimeError(f"processes {self.group()} survived SIGKILL")

    def group(self) -> list[int]:
        """List the living processes of its group, itself and its workers."""
        if self._process is None:
            return []
        self._process.poll()  # the dead one is a zombie until it is asked
        return [pid for pid, state, group in _processes() if group == self._process.pid and state != "Z"]

    def rss(self) -> int:
        """Measure the resident memory of its group, in bytes."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(page * int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.group())

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""

    def command(self) -> list[str]:
        """Word the command that serves on its host and port."""
        place = {"host": self.host, "port": self.port, "application": self.application}
        words = (word.format_map(place) for word in COMMANDS[self.kind].split())
        return [sys.executable, "-m", *words, *self.arguments]

    def _spawn(self) -> None:
        with socket.socket() as probe:
            probe.bind((self.host, 0))
            self.port = probe.getsockname()[1]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(LEASH), *self.command()],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": self.settings,
                    "PYTHONPATH": str(ROOT),
                    "PYTHONUNBUFFERED": "1",
                    **self.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_it_answers(self, within: float) -> None:
        answered_or_ended = becomes_true(lambda: self.answers() or not self.group(), within=within)
        if not answered_or_ended:
            raise StartError(f"{self.kind} did not answer within {within} s; its log ends:\n{self.tail()}")
        if not self.group():
            raise StartError(f"{self.kind} ended at its start; its log ends:\n{self.tail()}")

    def answers(self) -> bool:
        """Tell whether it answers a request, whatever it says."""
        # A request, not a mere connection: hypercorn and gunicorn listen before they import the application.
        connection = http.client.HTTPConnection(self.host, self.port, timeout=2)
        try:
            connection.request("GET", "/is-it-up")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        else:
            return True  # whatever it answers
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


Serve = Callable[..., ServerProcess]


def becomes_true(condition: Callable[[], bool], *, within: float) -> bool:
    """Wait until the condition holds, `within` seconds at most; return whether it does."""
    deadline = time.monotonic() + within
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return true


def _processes() -> list[tuple[int, str, int]]:
    """List id, state and process group of every process (proc(5), stat)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, _parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended while we were looking
            continue
        found.append((int(entry.name), state, int(group)))
    return found
