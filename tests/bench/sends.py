"""What `send_event` costs the plain synchronous code that calls it, side by side: this package and another.

Without an event loop, and outside transactions: as in a worker or a command. Each sender is a process of
its own on one core, Redis and PostgreSQL are on the other. ``python -m tests.bench.sends --help``
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from tqdm import tqdm

from tests.bench.contenders import pinned, python
from tests.bench.drops import LAYERS
from tests.bench.report import rows
from tests.servers.postgres import HOST as POSTGRES_HOST
from tests.servers.postgres import OWNER, PostgresServer
from tests.servers.process import LEASH, ROOT, StartError
from tests.servers.redis import HOST as REDIS_HOST
from tests.servers.redis import RedisServer

#: Column, figure and format.
COLUMNS: Final = (
    ("µs per call", "call", "{:,.1f}"),
    ("fastest round", "fastest", "{:,.1f}"),
    ("slowest round", "slowest", "{:,.1f}"),
    ("µs CPU per call", "cpu", "{:,.1f}"),
    ("doorbells lost", "unsent", "{:,.0f}"),
)

Figures = dict[str, float]


class Servers:
    """The servers that senders need, each started for the first one, on the other core."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.directory = directory
        self._stack = stack

    @cached_property
    def redis(self) -> RedisServer:
        """A Redis, which keeps nothing on disk."""
        with pinned(1):
            return self._stack.enter_context(RedisServer(directory=self.directory / "redis"))

    @cached_property
    def postgres(self) -> PostgresServer:
        """A PostgreSQL, which does not wait for its disk."""
        with pinned(1):
            return self._stack.enter_context(PostgresServer())


Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """One row of the table."""

    name: str
    package: Literal["django_sse", "django_eventstream"]
    #: What its Django settings have beside everybody's; StartError where its server is not installed.
    settings: Callable[[Servers], Settings]


def _redis_of_ours(servers: Servers) -> Settings:
    layer = {"BACKEND": LAYERS["pubsub"], "CONFIG": {"hosts": [servers.redis.url]}}
    return {"CHANNEL_LAYERS": {"default": layer}}  # and so the history is there


def _redis_of_theirs(servers: Servers, *, stored: bool) -> Settings:
    place = {"host": REDIS_HOST, "port": servers.redis.port, "db": 0}
    storage = {
        "EVENTSTREAM_STORAGE_CLASS": "django_eventstream.storage.RedisStorage",
        "EVENTSTREAM_STORAGE_CONNECTION": place,
    }
    return {"EVENTSTREAM_REDIS": place} | (storage if stored else {})


def _postgres(servers: Servers, more: Settings) -> Settings:
    default = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": OWNER,
        "USER": OWNER,
        "HOST": POSTGRES_HOST,
        "PORT": servers.postgres.port,
    }
    return {"DATABASES": {"default": default}} | more


_DATABASE_HISTORY: Final = {
    "BACKEND": "django_sse.history.database.DatabaseHistory",
    "OPTIONS": {"using": "default"},
}
SENDERS: Final[Mapping[str, Sender]] = {
    "memory": Sender(name="django_sse, memory", package="django_sse", settings=lambda _: {}),
    "eventstream-memory": Sender(
        name="django-eventstream, not stored", package="django_eventstream", settings=lambda _: {}
    ),
    "redis": Sender(name="django_sse, Redis", package="django_sse", settings=_redis_of_ours),
    "eventstream-redis": Sender(
        name="django-eventstream, Redis, not stored",
        package="django_eventstream",
        settings=lambda servers: _redis_of_theirs(servers, stored=False),
    ),
    "eventstream-redis-stored": Sender(
        name="django-eventstream, Redis, stored",
        package="django_eventstream",
        settings=lambda servers: _redis_of_theirs(servers, stored=True),
    ),
    "postgres": Sender(
        name="django_sse, PostgreSQL",
        package="django_sse",
        settings=lambda servers: _postgres(servers, {"DJANGO_SSE": {"HISTORY": _DATABASE_HISTORY}}),
    ),
    "eventstream-postgres": Sender(
        name="django-eventstream, PostgreSQL",
        package="django_eventstream",
        settings=lambda servers: _postgres(
            servers, {"EVENTSTREAM_STORAGE_CLASS": "django_eventstream.storage.DjangoModelStorage"}
        ),
    ),
}


class LeftOutError(RuntimeError):
    """What a sender needs cannot be imported here."""


class Process:
    """A sender's process; a context manager that ends it."""

    def __init__(self, sender: Sender, more: Settings, log: Path) -> None:
        common = {
            "SECRET_KEY": "of the benchmark",
            "INSTALLED_APPS": [sender.package],
            "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            "USE_TZ": True,
        }
        self._log = log
        with log.open("wb") as output, pinned(0):
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(LEASH), sys.executable, "-m", "tests.bench.sites.sender"],
                cwd=ROOT,
                env=os.environ
                | {"BENCH_SETTINGS": json.dumps(common | more), "BENCH_PACKAGE": sender.package}
                | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )

    def measure(self, calls: int) -> Figures:
        """Have it call so often, and return what a call took."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Figures:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a sender ended; its log ends:\n{self._log.read_text()[-4000:]}")
        figures: Figures = json.loads(line)
        return figures

    def __enter__(self) -> Self:
        ready: Mapping[str, Any] = self._answer()
        if "missing" in ready:
            self._end()
            raise LeftOutError(ready["missing"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        try:
            self._process.communicate(timeout=10)  # its input ends, and so it does
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.sends",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SENDERS), metavar="A,B")
    parser.add_argument("--calls", type=int, default=500, help="in a round; of 1,000 no doorbell is lost")
    parser.add_argument("--rounds", type=int, default=15, help="of which the median counts")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        found = run(options, start(options.only, Servers(stack, Path(directory)), stack))
    medians = {SENDERS[name].name: median(rounds) for name, rounds in found.items()}
    print(
        f"{python()}; {os.cpu_count()} cores; medians of {options.rounds} rounds of {options.calls:,} calls; "
        "PostgreSQL without fsync\n"
    )
    print(rows(medians, COLUMNS))


def start(names: Sequence[str], servers: Servers, stack: ExitStack) -> dict[str, Process]:
    """Start each sender that can be here; of the others, print why not."""
    processes = {}
    for name in names:
        sender = SENDERS[name]
        try:
            process = Process(sender, sender.settings(servers), servers.directory / f"{name}.log")
            processes[name] = stack.enter_context(process)
        except (LeftOutError, StartError) as error:
            print(f"{sender.name} is left out: {error}", file=sys.stderr)
    return processes


def run(options: argparse.Namespace, processes: Mapping[str, Process]) -> dict[str, list[Figures]]:
    """Let the senders take turns."""
    for process in processes.values():
        process.measure(options.calls)  # connected, and its caches filled
    found: dict[str, list[Figures]] = {name: [] for name in processes}
    for _ in tqdm(range(options.rounds), unit=" rounds", disable=None):
        for name, process in processes.items():
            found[name].append(process.measure(options.calls))
    return found


def median(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure, how far the rounds are apart, and what was lost in all."""
    calls = [figures["call"] for figures in rounds]
    medians = {name: statistics.median(figures[name] for figures in rounds) for name in ("call", "cpu")}
    lost = {"unsent": sum(figures["unsent"] for figures in rounds)} if "unsent" in rounds[0] else {}
    return medians | lost | {"fastest": min(calls), "slowest": max(calls)}


if __name__ == "__main__":
    main()
