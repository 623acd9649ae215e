"""How many events a second one publisher appends to a Redis on this machine, and one bare command for scale.

``python -m tests.bench.appends``
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis as redis_py

from django_sse.history.redis import RedisHistory
from django_sse.wire import Event
from tests.servers.redis import HOST, RedisServer

EVENT = Event(name="tick", text='{"symbol":"ABC","price":12.5}')


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each way in turn, several times, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.appends", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory, RedisServer(directory=Path(directory)) as server:
        ways: dict[str, Callable[[int], float]] = {
            "one sync publisher": lambda count: _sync(server, count),
            "one async publisher, one after another": lambda count: asyncio.run(_async(server, count, 1)),
            "one async publisher, 100 at once": lambda count: asyncio.run(_async(server, count, 100)),
            "one async publisher, 1000 at once": lambda count: asyncio.run(_async(server, count, 1000)),
            "bare XADD, sync, for scale": lambda count: _bare(server, count),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                server.flush()
                rates[name].append(options.events / way(options.events))
        for name, measured in rates.items():
            print(f"{name:42}{statistics.median(measured):10,.0f} events/s")


def _sync(server: RedisServer, count: int) -> float:
    history = RedisHistory(url=server.url)
    history.tail(["bench"])  # connected
    began = time.perf_counter()
    for _ in range(count):
        history.append("bench", EVENT)
    took = time.perf_counter() - began
    history.close()
    return took


async def _async(server: RedisServer, count: int, at_once: int) -> float:
    history = RedisHistory(url=server.url)
    await history.atail(["bench"])

    async def publish() -> None:
        for _ in range(count // at_once):
            await history.aappend("bench", EVENT)

    began = time.perf_counter()
    await asyncio.gather(*(publish() for _ in range(at_once)))
    took = time.perf_counter() - began
    history.close()
    return took


def _bare(server: RedisServer, count: int) -> float:
    client = redis_py.Redis(host=HOST, port=server.port)
    client.ping()
    began = time.perf_counter()
    for _ in range(count):
        client.xadd("bare", {"name": EVENT.name, "text": EVENT.text}, maxlen=10_000, approximate=True)
    took = time.perf_counter() - began
    client.close()
    return took


if __name__ == "__main__":
    main()
