"""What one delivery and one open stream cost, side by side: this package and others, one core each.

Each server runs on one core, the clients on the other. ``python -m tests.bench.deliveries --help``
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tqdm import tqdm

from tests.bench.contenders import CONTENDERS, OWN_ON_REDIS, Contender, Program, pinned, python
from tests.bench.fleet import Fleet, FleetError
from tests.bench.pages import Pages
from tests.bench.report import draw, table

#: The core of the servers, and that of the clients.
SERVER, CLIENTS = 0, 1
#: Seconds in which anything has happened.
PATIENCE: Final = 400.0
#: Streams, and events in a turn, of the row about joined writes.
JOINED_STREAMS: Final = 200
JOINED_EVENTS: Final = 10

#: Figures of which a single round would be too much.
FAULTS: Final = ("lost", "disordered")

Figures = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.deliveries",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CONTENDERS), metavar="A,B")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--many", type=int, default=5000, help="streams beside an ordinary view; 0: skip it")
    parser.add_argument("--crowd", type=int, default=18_000, help="streams of this package alone; 0: skip it")
    parser.add_argument("--events", type=int, default=100, help="in a burst")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the modest rate, 10 events a second")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--json", type=Path, help="write the figures of all rounds here")
    parser.add_argument("--plot", type=Path, help="draw the table here: PNG or SVG, by its suffix")
    options = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    names = [name for name in options.only if _is_here(name)]
    with pinned(CLIENTS):
        found = run(options, names)
    medians = {name: median(rounds) for name, rounds in found.items()}
    print(f"{python()}; {os.cpu_count()} cores; medians of {options.rounds}")
    print(table(medians, options))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if options.plot:
        draw(medians, options.plot)
    if any(figures.get(fault) for figures in medians.values() for fault in FAULTS):
        print("Events were lost or came out of order.", file=sys.stderr)


def _is_here(name: str) -> bool:
    missing = CONTENDERS[name].missing()
    if missing:
        print(f"{CONTENDERS[name].name} is left out: install {missing}", file=sys.stderr)
    return not missing


def run(options: argparse.Namespace, names: Sequence[str]) -> dict[str, list[Figures]]:
    """Measure everything."""
    found = defaultdict[str, list[Figures]](list)
    crowds = {"lean": CONTENDERS["lean"], "core": OWN_ON_REDIS}
    jobs: list[tuple[str, Callable[[], Iterator[tuple[str, Figures]]]]] = [
        ("deliveries", lambda: measure(names, options)),
        ("joined writes", lambda: measure_joined(names, options)),
    ]
    if options.many:
        jobs += [
            (f"{options.many} streams: {name}", partial(measure_many, name, CONTENDERS[name], options))
            for name in names
            if CONTENDERS[name].kind == "uvicorn"
        ]
    if options.crowd:
        jobs += [
            (f"{options.crowd} streams: {name}", partial(measure_crowd, name, contender, options))
            for name, contender in crowds.items()
            if name in names
        ]
    with tqdm(jobs, disable=None) as bar:
        for title, job in bar:
            bar.set_description(title)
            try:
                for name, figures in job():
                    found[name].append(figures)
                    bar.set_postfix_str(name)
            except FleetError as error:
                bar.write(f"{title}: given up, {error}")
    return dict(found)


def median(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure, over the rounds that have it; of faults the most."""
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {
        name: (max if name in FAULTS else statistics.median)(
            [figures[name] for figures in rounds if name in figures]
        )
        for name in names
    }


@dataclass(kw_only=True)
class Trial:
    """A server, its clients, and the events so far."""

    contender: Contender
    program: Program
    fleet: Fleet
    #: Seconds of rest before and after connecting.
    settle: float
    sent: int = 0

    def open(self, count: int, *, at_once: int = 64) -> Figures:
        """Open streams; return what each cost."""
        time.sleep(self.settle)  # the start is over
        rss, threads, cpu, began = (
            self.program.rss(),
            self.program.threads,
            self.program.cpu,
            time.monotonic(),
        )
        before = len(self.fleet)
        paths = [f"/events/{self.contender.query(before + number)}" for number in range(count)]
        self.fleet.open(paths, at_once=at_once, within=PATIENCE)
        seconds = time.monotonic() - began
        self.fleet.expect(self.sent)
        time.sleep(self.settle)  # threads end
        return {
            "connects": count / seconds,
            "connect_ms": 1000 * (self.program.cpu - cpu) / count,
            "kilobytes": (self.program.rss() - rss) / count / 1024,
            "threads": (self.program.threads - threads) / count,
        }

    def send(self, count: int, *, each: int = 1, rate: float = 0) -> Figures:
        """Send events, and read them all; return what they cost."""
        expected = self.fleet.total + count * len(self.fleet)
        order = threading.Thread(
            target=self.contender.order,
            args=(self.program,),
            kwargs={"first": self.sent, "count": count, "each": each, "rate": rate},
        )
        cpu, own, began = self.program.cpu, time.process_time(), time.monotonic()
        order.start()
        self.fleet.run(lambda: self.fleet.total >= expected, within=PATIENCE)
        seconds, used = time.monotonic() - began, time.process_time() - own
        order.join()
        self.sent += count
        deliveries = count * len(self.fleet)
        return {
            "cpu": 1e6 * (self.program.cpu - cpu) / deliveries,
            "deliveries": deliveries / seconds,
            "client_core": used / seconds,
            "seconds": seconds,
        }

    @property
    def faults(self) -> Figures:
        """What never came, and what came late or twice."""
        return {"lost": self.fleet.lost, "disordered": self.fleet.disordered}


@contextmanager
def trial(contender: Contender, options: argparse.Namespace) -> Iterator[Trial]:
    """Start a server, without clients."""
    with (
        tempfile.TemporaryDirectory() as directory,
        contender.running(Path(directory), core=SERVER) as program,
        Fleet((program.host, program.port), opened=contender.opened) as fleet,
    ):
        settle = min(1.0, options.seconds)
        yield Trial(contender=contender, program=program, fleet=fleet, settle=settle)


@contextmanager
def trials(names: Sequence[str], options: argparse.Namespace) -> Iterator[dict[str, Trial]]:
    """Start several servers."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(trial(CONTENDERS[name], options)) for name in names}


def measure(names: Sequence[str], options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Measure connecting, bursts, and delays at a modest rate.

    All servers are there at once and take turns, so that a noisy minute does not hit one of them alone.
    """
    with trials(names, options) as there:
        for number in range(options.rounds):
            for name, one in there.items():
                until = options.streams * (number + 1) // options.rounds
                yield name, one.open(until - len(one.fleet))
        for one in there.values():
            one.send(max(2, options.events // 10))
        for _ in range(options.rounds):
            for name, one in there.items():
                yield name, one.send(options.events)
        for _ in range(options.rounds):
            for name, one in there.items():
                one.fleet.delays = []
                one.send(round(10 * options.seconds), rate=10)
                cuts = statistics.quantiles(one.fleet.delays, n=100)
                one.fleet.delays = None
                yield name, {"p50": 1000 * cuts[49], "p99": 1000 * cuts[98]}
        for name, one in there.items():
            yield name, one.faults


def measure_joined(names: Sequence[str], options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    """Measure several events in a turn of the loop, which may leave as one write, with fewer streams."""
    with trials(names, options) as there:
        for one in there.values():
            one.open(min(JOINED_STREAMS, options.streams))
            one.send(10 * JOINED_EVENTS, each=JOINED_EVENTS)
        for _ in range(options.rounds):
            for name, one in there.items():
                figures = one.send(options.events * JOINED_EVENTS, each=JOINED_EVENTS)
                yield name, {"joined_cpu": figures["cpu"]} | one.faults


def measure_many(
    name: str, contender: Contender, options: argparse.Namespace
) -> Iterator[tuple[str, Figures]]:
    """Measure an ordinary view while a storm of clients connects, and during a broadcast to them."""
    with trial(contender, options) as there:
        with Pages(there.program) as pages:
            opened = there.open(options.many, at_once=min(options.many, 4096))
        figures = {"storm_p99": pages.p99, "storm_connects": opened["connects"]}
        figures |= {"many_kilobytes": opened["kilobytes"], "many_threads": opened["threads"]}
        there.send(2)
        figures["many_cpu"] = there.send(max(4, options.events // 4))["cpu"]
        with Pages(there.program) as pages:
            seconds = [there.send(1)["seconds"] for _ in range(max(4, options.events // 4))]
        figures |= {"broadcast_p99": pages.p99, "broadcast_seconds": statistics.median(seconds)}
        with Pages(there.program) as pages:
            there.send(max(2, round(2 * options.seconds)), rate=4)
        figures["pages"] = pages.rate
        yield name, figures | there.faults


def measure_crowd(
    name: str, contender: Contender, options: argparse.Namespace
) -> Iterator[tuple[str, Figures]]:
    """Measure as many streams as one process may have: held, idle, and a broadcast to them all."""
    with trial(contender, options) as there:
        opened = there.open(options.crowd)
        figures = {"crowd_kilobytes": opened["kilobytes"], "crowd_connects": opened["connects"]}
        figures["crowd_idle"] = _idle(there, seconds=3 * options.seconds)
        there.send(1)
        figures["crowd_seconds"] = statistics.median(there.send(1)["seconds"] for _ in range(3))
        yield name, figures | there.faults | {"crowd": len(there.fleet)}


def _idle(there: Trial, *, seconds: float) -> float:
    cpu, until = there.program.cpu, time.monotonic() + seconds
    there.fleet.run(lambda: time.monotonic() > until, within=seconds + PATIENCE)
    return (there.program.cpu - cpu) / seconds


if __name__ == "__main__":
    main()
