"""What a topic without events costs a Redis on this machine: its memory, and each comparison with it.

``python -m tests.bench.topics``
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis as redis_py

from django_sse.history.redis import RedisHistory
from tests.servers.redis import HOST, RedisServer

#: Topics of one call, as a process with so many compares them.
_AT_ONCE = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure with Redis as it is, and with small nodes."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.topics", description=__doc__)
    parser.add_argument("--topics", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    for size in (4096, 512):
        more = ("--stream-node-max-bytes", str(size))
        with (
            tempfile.TemporaryDirectory() as directory,
            RedisServer(directory=Path(directory), arguments=more) as server,
        ):
            memory, cpu = _measure(server, options.topics, options.rounds)
        print(
            f"stream-node-max-bytes {size}: {memory:,.0f} bytes a topic, {cpu:.1f} µs of Redis a comparison"
        )


def _measure(server: RedisServer, count: int, rounds: int) -> tuple[float, float]:
    client = redis_py.Redis(host=HOST, port=server.port)
    history = RedisHistory(url=server.url)
    topics = [f"user.{number}" for number in range(count)]

    def compare() -> None:
        for start in range(0, count, _AT_ONCE):
            history.tail(topics[start : start + _AT_ONCE])

    before = _info(client)["used_memory"]
    compare()  # which makes them
    memory = (_info(client)["used_memory"] - before) / count
    took = []
    for _ in range(rounds):
        before = _cpu(client)
        compare()
        took.append(_cpu(client) - before)
    history.close()
    client.close()
    return memory, statistics.median(took) / count * 1_000_000


def _cpu(client: "redis_py.Redis") -> float:
    info = _info(client)
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def _info(client: "redis_py.Redis") -> dict[str, Any]:
    told: Any = client.info()
    return dict(told)


if __name__ == "__main__":
    main()
