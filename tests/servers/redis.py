"""A real redis-server for tests: on a free loopback port, in a directory of its own, and always ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers.process import LEASH, StartError, becomes_true

HOST: Final = "127.0.0.1"


@dataclass(kw_only=True, slots=True, eq=False)
class RedisServer:
    """A redis-server; a context manager that starts and ends it.

    With ``aof`` every write is on disk before it is answered, so a restart keeps it; without, a restart
    loses everything. The port stays the same over restarts.
    """

    directory: Path
    aof: bool = False
    #: More words of its command line, such as ``("--maxmemory", "10mb")``.
    arguments: tuple[str, ...] = ()
    port: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process started."""
        if self._process is None:
            raise RuntimeError("redis-server was not started")
        return self._process.pid

    def start(self, *, within: float = 10) -> Self:
        """Start it and wait until it answers; raise StartError when it does not."""
        program = shutil.which("redis-server")
        if program is None:
            raise StartError("redis-server is not installed (on Debian: apt-get install redis-server)")
        fixed = self.port
        for attempt in range(3):
            if not fixed:
                with socket.socket() as probe:
                    probe.bind((HOST, 0))
                    self.port = probe.getsockname()[1]
            self._spawn(program)
            try:
                # It answers PING while it is loading, but with an error.
                becomes_true(lambda: self.answers() or not self.runs(), within=within)
                if self.answers():
                    return self
            except BaseException:
                self.kill()
                raise
            self.kill()
            # Between finding the port free and the server's bind, somebody else may have taken it.
            if fixed or attempt == 2 or "in use" not in self.tail():
                break
        raise StartError(f"redis-server did not answer within {within} s; its log ends:\n{self.tail()}")

    def stop(self, *, grace: float = 5) -> None:
        """End it by SIGTERM, or after `grace` seconds by SIGKILL."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it by SIGKILL, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)

    def restart(self, *, crash: bool = True) -> None:
        """End it, by a crash unless told otherwise, and start it again on the same port."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start()

    def flush(self) -> None:
        """Lose everything."""
        self.command("FLUSHALL")

    def command(self, *words: Any) -> Any:
        """Send one command over a connection of its own, and return its answer."""
        client: Any = redis.Redis(
            host=HOST,
            port=self.port,
            socket_timeout=5,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        try:
            return client.execute_command(*words)
        finally:
            client.close()

    def connections(self) -> int:
        """Count its clients, this question's own left out."""
        return len(bytes(self.command("CLIENT", "LIST")).splitlines()) - 1

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it, so that it takes connections and bytes, and answers nothing, until the block ends."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def runs(self) -> bool:
        """Tell whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Tell whether it answers a PING."""
        try:
            self.command("PING")
        except redis.RedisError:
            return False
        return True

    def tail(self) -> str:
        """Return the end of its log."""
        log = self.directory / "redis.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""

    def _spawn(self, program: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        storing = ("--appendonly", "yes", "--appendfsync", "always") if self.aof else ("--appendonly", "no")
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-IS", str(LEASH), program),
                    *("--bind", HOST, "--port", str(self.port), "--dir", str(self.directory), "--save", ""),
                    *storing,
                    *self.arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
