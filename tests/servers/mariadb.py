"""A real MariaDB for tests: on a free loopback port, in a directory of its own, and always ended.

Who imports this has PyMySQL as Django's driver; it needs no compiler, unlike mysqlclient.
"""

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
from typing import Final, Self

import pymysql

from tests.servers.process import LEASH, StartError, becomes_true

pymysql.install_as_MySQLdb()

HOST: Final = "127.0.0.1"
#: Whom Debian's package makes; mariadbd refuses to work for root.
OWNER: Final = "mysql"
#: Of the database, its user and the password.
NAME: Final = "django_sse"
#: Executed before it listens.
INIT: Final = f"""\
CREATE DATABASE {NAME};
CREATE USER '{NAME}'@'{HOST}' IDENTIFIED BY '{NAME}';
GRANT ALL ON *.* TO '{NAME}'@'{HOST}' WITH GRANT OPTION;
"""


@dataclass(kw_only=True, slots=True, eq=False)
class MariaDBServer:
    """A server with a database; a context manager that makes, starts and ends it."""

    port: int = field(default=0, init=False)
    directory: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def database(self) -> dict[str, str]:
        """How Django finds it, an entry of DATABASES."""
        return {
            "ENGINE": "django.db.backends.mysql",
            "HOST": HOST,
            "PORT": str(self.port),
            "USER": NAME,
            "PASSWORD": NAME,
            "NAME": NAME,
        }

    @property
    def pid(self) -> int:
        """The process started."""
        if self._process is None:
            raise RuntimeError("MariaDB was not started")
        return self._process.pid

    def start(self, *, within: float = 60) -> Self:
        """Make and start it, and wait until it answers; raise StartError when it does not."""
        # Not below the tests' own directory, which is root's alone.
        self.directory = Path(tempfile.mkdtemp(prefix="django_sse-mariadb-"))
        try:
            self._make()
            self._spawn()
            self._wait_until_it_answers(within)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it, and remove what it kept."""
        if self._process is not None and self._runs():
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _init(self) -> Path:
        return self.directory / "init.sql"

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _make(self) -> None:
        self._init.write_text(INIT)
        if os.geteuid() == 0:
            shutil.chown(self.directory, OWNER)
            shutil.chown(self._init, OWNER)
        command = _as_owner(
            "mariadb-install-db", "--no-defaults", "--skip-test-db", f"--datadir={self._data}"
        )
        made = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=60
        )
        if made.returncode:
            raise StartError(f"mariadb-install-db failed:\n{made.stdout}{made.stderr}")

    def _spawn(self) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        options = {
            "bind-address": HOST,
            "port": self.port,
            "datadir": self._data,
            "socket": self.directory / "socket",
            "pid-file": self.directory / "pid",
            "init-file": self._init,
            "character-set-server": "utf8mb4",  # Debian's default, which stands in its my.cnf
            "innodb-flush-log-at-trx-commit": 0,
        }
        words = ["--no-defaults", "--skip-name-resolve", *(f"--{name}={options[name]}" for name in options)]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(LEASH), *_as_owner("mariadbd", *words)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
            )

    def _wait_until_it_answers(self, within: float) -> None:
        becomes_true(lambda: self._answers() or not self._runs(), within=within)
        if not self._answers():
            tail = self._log.read_text(errors="replace")[-2000:]
            raise StartError(f"MariaDB did not answer within {within} s; its log ends:\n{tail}")

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _answers(self) -> bool:
        try:
            pymysql.connect(
                host=HOST, port=self.port, user=NAME, password=NAME, database=NAME, connect_timeout=5
            ).close()
        except pymysql.OperationalError:  # not that of pymysql.err, which Django imports once more
            return False
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _as_owner(program: str, *words: str) -> list[str]:
    # Where only root's path has it, others may run it too.
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        raise StartError(f"{program} is not installed (on Debian: apt-get install mariadb-server)")
    command = [found, *words]
    if os.geteuid() != 0:
        return command
    # Linux takes the leash off where the user changes. Neither runuser, which ends before what it runs, nor
    # mariadbd's own --user puts it on again.
    user = f"--reuid={OWNER} --regid={OWNER} --init-groups --pdeathsig=TERM"
    return ["setpriv", *user.split(), "--", *command]
