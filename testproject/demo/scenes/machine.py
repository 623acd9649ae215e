"""Machine: real figures of this computer and of the server's processes, once a second.

A second is written down from the first stream on. It is sent while somebody watches: the computer's by
whichever process is first, each process's own by itself. A card is one template, which its events fill.
"""

import os
import threading
from collections import deque
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from django_sse import send_event
from django_sse.hub import Hub
from django_sse.signals import stream_opened
from testproject.demo.charts import area, line
from testproject.demo.pages import Scene
from testproject.demo.watched import WhileWatched

SCENE = Scene(
    slug="machine",
    title="Machine",
    summary="Load and memory of this computer, and what this package counts.",
    module=__name__,
    card=lambda: {"computer": meter.computer()},
    files=("templates/demo/parts/process.html", "watched.py", "charts.py", "sse.py"),
)
SECONDS = 60  # of the charts
COUNTED = ("streams", "followers", "opened", "entries", "heals", "missed", "spills", "unsent")


class Meter:
    """The last minute of this computer and of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_running = False
        self._ticks = (0, 0)  # of the processors: busy, and all
        self._entries = 0
        self._cpu: deque[float] = deque(maxlen=SECONDS)
        self._memory: deque[float] = deque(maxlen=SECONDS)
        self._streams: deque[float] = deque(maxlen=SECONDS)
        self._rate: deque[float] = deque(maxlen=SECONDS)

    def start(self, **_: object) -> None:
        """Write the seconds down from now on; a receiver of signals."""
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._run, name="meter", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.read()
            threading.Event().wait(1)

    def read(self) -> None:
        """Write one second down."""
        now, (busy, every) = counters(), processor_ticks()
        with self._lock:
            was_busy, was_every = self._ticks
            self._cpu.append(100 * (busy - was_busy) / ((every - was_every) or 1))
            self._memory.append(100 * memory_used())
            self._streams.append(now["streams"])
            self._rate.append(max(0, now["entries"] - self._entries) if self._rate else 0)
            self._ticks, self._entries = (busy, every), now["entries"]

    def computer(self) -> dict[str, Any]:
        """Return what the page shows of the computer."""
        with self._lock:
            cpu, memory = (line(values or [0], low=0, high=100) for values in (self._cpu, self._memory))
            return {
                "cpu": f"{(self._cpu or [0])[-1]:.0f} %",
                "cpu_line": cpu,
                "cpu_area": area(cpu),
                "memory": f"{(self._memory or [0])[-1]:.0f} %",
                "memory_line": memory,
                "memory_area": area(memory),
                "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
                "cores": os.cpu_count(),
            }

    def process(self) -> dict[str, Any]:
        """Return what the page shows of this process."""
        told = counters()
        with self._lock:
            streams, rate = list(self._streams or [0]), list(self._rate or [0])
        return {
            "pid": os.getpid(),
            **told,
            "rate": f"{rate[-1]:.0f}",
            "streams_line": line(streams, low=0, high=max(*streams, 4)),
            "rate_line": line(rate, low=0, high=max(*rate, 4)),
        }


def counters() -> dict[str, int]:
    """Return what the hubs of this process have counted: what /admin/django_sse/process/ shows, too."""
    snapshots = [hub.snapshot() for hub in Hub.all()]
    told = {name: sum(getattr(snapshot, name) for snapshot in snapshots) for name in COUNTED}
    told["resets"] = sum(sum(snapshot.resets.values()) for snapshot in snapshots)
    told["ends"] = sum(sum(snapshot.ends.values()) for snapshot in snapshots)
    return told


def processor_ticks() -> tuple[int, int]:
    """Return how long all processors were busy, and how long they were there (proc(5), stat)."""
    try:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:  # no Linux: the load of the last minute, as a share
        return round(100 * os.getloadavg()[0] / (os.cpu_count() or 1)), 100
    return sum(numbers) - numbers[3] - numbers[4], sum(numbers)


def memory_used() -> float:
    """Return which part of the memory is in use (proc(5), meminfo)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0.0
    sizes = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return 1 - sizes["MemAvailable"] / sizes["MemTotal"]


meter: Meter = Meter()
stream_opened.connect(meter.start, dispatch_uid="testproject.meter")


def send(tick: int) -> None:
    """Send the last second."""
    send_event("machine", "computer", meter.computer(), idempotency_key=f"computer-{tick}", on_commit=False)
    send_event("machine", "process", meter.process(), on_commit=False)


def leave() -> None:
    """Take this process's card away: nobody watches here any more."""
    send_event("machine", "process-left", {"pid": os.getpid()}, on_commit=False)


watched = WhileWatched("machine", send, rate=1, leave=leave)


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the figures of this moment."""
    return SCENE.render(request, {"computer": meter.computer(), "process": meter.process()})


urlpatterns = [path("", show, name="machine")]
