"""The servers that are compared, each in a process of its own."""

import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.bench.drops import LAYERS
from tests.bench.sites.order import TOPIC, text_of
from tests.servers.process import Kind, ServerProcess
from tests.servers.redis import RedisServer

SITES: Final = Path(__file__).with_name("sites")
_NCHAN: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
#: No access logs, and room for a storm of connects.
ARGUMENTS: Final[Mapping[Kind, Sequence[str]]] = {
    "uvicorn": ["--no-access-log", "--backlog", "8192", "--log-level", "warning"],
    "daphne": ["--verbosity", "0"],
    "hypercorn": ["--backlog", "8192"],
    "granian": ["--backlog", "8192"],
    "gunicorn": ["--backlog", "8192", "--worker-connections", "20000"],
}
#: As at the start: who is pinned sees one core alone.
_CORES: Final = sorted(os.sched_getaffinity(0))
_TICK: Final = os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True, slots=True, eq=False)
class Program(ServerProcess):
    """A server on a core of its own, and what it has used."""

    words: Callable[[int], list[str]] | None = None

    def command(self) -> list[str]:
        """Word the command, uvicorn's unless another is given."""
        return ServerProcess.command(self) if self.words is None else self.words(self.port)

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has used, ended threads included."""
        ticks = 0
        for pid in self.group():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICK

    @property
    def threads(self) -> int:
        """How many threads it has."""
        return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.group())


@dataclass(kw_only=True, slots=True)
class Contender:
    """One row of the table."""

    name: str
    kind: Kind = "uvicorn"
    application: str = ""
    #: What a stream's first bytes hold.
    opened: bytes = b"event: open"
    settings: str = ""
    layer: str = ""
    #: What stands in the path of the stream of a number.
    query: Callable[[int], str] = field(default=lambda _: "")
    #: Why it cannot run here; empty where it can.
    missing: Callable[[], str] = field(default=lambda: "")
    words: Callable[[Path], Callable[[int], list[str]]] | None = None

    @contextmanager
    def running(self, directory: Path, *, core: int) -> Iterator[Program]:
        """Start it, pinned to a core."""
        with _redis(directory, needed=bool(self.layer)) as environment:
            program = Program(
                kind=self.kind,
                log=directory / "server.log",
                application=self.application,
                settings=self.settings,
                environment={
                    **environment,
                    "BENCH_LAYER": self.layer,
                    "BENCH_DATABASE": str(directory / "db.sqlite3"),
                },
                arguments=ARGUMENTS[self.kind],
                words=None if self.words is None else self.words(directory),
            )
            with pinned(core):
                program.start()
            try:
                yield program
            finally:
                program.stop(grace=1)

    def order(self, program: Program, *, first: int, count: int, each: int = 1, rate: float = 0) -> None:
        """Have events sent; return when they are."""
        path = f"/order?first={first}&count={count}&each={each}&rate={rate}"
        connection = http.client.HTTPConnection(program.host, program.port, timeout=600)
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{self.name} answered {answer.status}: {answer.read()[:500]!r}")
        connection.close()


class Nchan(Contender):
    """nchan has no program inside: each event is a request."""

    def order(self, program: Program, *, first: int, count: int, each: int = 1, rate: float = 0) -> None:
        """Publish one event after the other."""
        connection = http.client.HTTPConnection(program.host, program.port, timeout=600)
        began = time.monotonic()
        for number in range(first, first + count):
            if rate:
                time.sleep(max(0.0, began + (number - first) / rate - time.monotonic()))
            connection.request("POST", "/publish", text_of(number))
            connection.getresponse().read()
        connection.close()


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on this core of those that the benchmark was given, also what is started meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_CORES[core % len(_CORES)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _redis(directory: Path, *, needed: bool) -> Iterator[Mapping[str, str]]:
    if not needed:
        yield {}
        return
    with pinned(1), RedisServer(directory=directory / "redis") as server:
        yield {"BENCH_REDIS": server.url}


def _better_sse(directory: Path) -> Callable[[int], list[str]]:
    install = ["npm", "install", "--no-save", "--silent", "--prefix", str(directory), "better-sse"]
    subprocess.run(install, check=True, timeout=120)
    return lambda port: ["node", str(SITES / "better_sse.mjs"), str(port), str(directory)]


def _nchan(directory: Path) -> Callable[[int], list[str]]:
    def words(port: int) -> list[str]:
        text = (SITES / "nchan.conf").read_text()
        values = {
            "module": _NCHAN,
            "directory": directory,
            "port": port,
        }
        path = directory / "nginx.conf"
        path.write_text(text.format_map(values))
        return ["nginx", "-p", str(directory), "-c", str(path)]

    return words


def _lacks(*modules: str) -> Callable[[], str]:
    return lambda: " ".join(f"python -m pip install {name}" for name in modules if find_spec(name) is None)


def _lacks_node() -> str:
    return "" if shutil.which("node") and shutil.which("npm") else "node and npm"


def _lacks_nchan() -> str:
    return "" if shutil.which("nginx") and _NCHAN.exists() else "Debian's nginx and libnginx-mod-nchan"


def _ours(
    name: str, *, kind: Kind = "uvicorn", handler: str = "lean", layer: str = "", own: bool = False
) -> Contender:
    def query(number: int) -> str:
        return f"?topic={TOPIC}" + (f"&topic=own.{number}" if own else "")

    return Contender(
        name=name,
        kind=kind,
        application=f"tests.bench.sites.package.{handler}:application",
        settings="tests.bench.sites.package.settings",
        opened=b"event: sse-open",
        layer=layer,
        query=query,
    )


CONTENDERS: Final[Mapping[str, Contender]] = {
    "bare": Contender(name="bare ASGI", application="tests.bench.sites.bare:application"),
    "lean": _ours("django_sse, lean"),
    "own": _ours("django_sse, lean, own topics", own=True),
    "core": _ours("django_sse, lean, channels_redis core", layer=LAYERS["core"]),
    "pubsub": _ours("django_sse, lean, channels_redis pubsub", layer=LAYERS["pubsub"]),
    "plain": _ours("django_sse, plain", handler="plain"),
    "nchan": Nchan(name="nchan (C)", opened=b": hi", missing=_lacks_nchan, words=_nchan),
    "better-sse": Contender(
        name="better-sse (Node)", opened=b"event:open", missing=_lacks_node, words=_better_sse
    ),
    "sse-starlette": Contender(
        name="sse-starlette",
        application="tests.bench.sites.starlette:application",
        missing=_lacks("sse_starlette"),
    ),
    "eventstream": Contender(
        name="django-eventstream",
        application="tests.bench.sites.eventstream:application",
        opened=b"event: stream-open",
        missing=_lacks("django_eventstream"),
    ),
    "daphne": _ours("django_sse, lean, on daphne", kind="daphne"),
    "hypercorn": _ours("django_sse, lean, on hypercorn", kind="hypercorn"),
    "granian": _ours("django_sse, lean, on granian", kind="granian"),
    "gunicorn": _ours("django_sse, lean, on gunicorn", kind="gunicorn"),
}

#: Beside those of the table: each stream on a topic of its own too, whose tails are checked in Redis.
OWN_ON_REDIS: Final = _ours("django_sse, lean, own topics, Redis", layer=LAYERS["core"], own=True)


def python() -> str:
    """Name the Python that all but node and nginx run on."""
    return f"Python {sys.version.split()[0]}, {sys.executable}"
