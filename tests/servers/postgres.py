"""A real PostgreSQL for tests: on a free loopback port, in a directory of its own, and always ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, LiteralString, Self

import psycopg

from tests.servers.process import LEASH, StartError, becomes_true

HOST: Final = "127.0.0.1"
#: Whom Debian's package makes; initdb refuses to work for root.
OWNER: Final = "postgres"


@dataclass(kw_only=True, slots=True, eq=False)
class PostgresServer:
    """A cluster of databases; a context manager that makes, starts and ends it."""

    max_connections: int = 20
    port: int = field(default=0, init=False)
    directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def environment(self) -> dict[str, str]:
        """How a site finds it."""
        return {"SITE_DATABASE_HOST": HOST, "SITE_DATABASE_PORT": str(self.port)}

    @property
    def database(self) -> dict[str, str]:
        """How Django finds it, an entry of DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": HOST,
            "PORT": str(self.port),
            "USER": OWNER,
            "NAME": OWNER,
        }

    def count_connections(self) -> int:
        """Return how many connections there are beside this one."""
        query = "SELECT FROM pg_stat_activity WHERE backend_type = 'client backend'"
        return self.execute(query) - 1

    def execute(self, statement: LiteralString, *values: object) -> int:
        """Execute a statement in a connection of its own, and return how many rows it has met."""
        with self._connect() as connection:
            return connection.execute(statement, values or None).rowcount

    def start(self, *, within: float = 60) -> Self:
        """Make and start it, and wait until it answers; raise StartError when it does not."""
        # Not below the tests' own directory, which is root's alone.
        self.directory = Path(tempfile.mkdtemp(prefix="django_sse-postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self.directory, OWNER)
        data, log = self.directory / "data", self.directory / "log"
        self._run("initdb", "--auth=trust", f"--username={OWNER}", "--no-sync", f"--pgdata={data}")
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        options = {
            "max_connections": self.max_connections,
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(LEASH), *_as_owner("postgres", "-D", str(data), *words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
            )
        if not becomes_true(self._answers, within=within):
            tail = log.read_text(errors="replace")[-2000:]
            self.stop()
            raise StartError(f"PostgreSQL did not answer within {within} s; its log ends:\n{tail}")
        return self

    def stop(self) -> None:
        """End it, and remove what it kept."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)  # its "fast" shutdown
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(host=HOST, port=self.port, user=OWNER, dbname=OWNER, connect_timeout=5)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, *words: str) -> None:
        made = subprocess.run(
            _as_owner(*words), cwd=self.directory, capture_output=True, text=True, check=False, timeout=60
        )
        if made.returncode:
            raise StartError(f"{words[0]} failed:\n{made.stderr}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _as_owner(program: str, *words: str) -> list[str]:
    # Debian keeps the programs of each version apart from the path.
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    found = shutil.which(program) or next((str(path) for path in versions), None)
    if found is None:
        raise StartError(f"{program} is not installed (on Debian: apt-get install postgresql)")
    command = [found, *words]
    return ["runuser", "-u", OWNER, "--", *command] if os.geteuid() == 0 else command
