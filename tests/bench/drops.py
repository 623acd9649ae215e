"""Clients whose line drops for two seconds, again and again, while events are sent steadily.

``python -m tests.bench.drops --help``
"""

import argparse
import asyncio
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
from tqdm import tqdm

from tests.servers.process import ServerProcess
from tests.servers.redis import RedisServer
from tests.soak.clients import Client

LAYERS: Final = {
    "memory": "channels.layers.InMemoryChannelLayer",
    "core": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
TOPICS: Final = ["soak.a", "soak.b"]
PUBLISHERS: Final = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one experiment, and print what came of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.drops",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--layer", choices=LAYERS, default="core", help="memory means one server process")
    parser.add_argument("--server", choices=["uvicorn", "daphne"], default="uvicorn")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--events", type=int, default=6000, help="in all")
    parser.add_argument("--rate", type=float, default=200.0, help="events in a second")
    parser.add_argument("--every", type=float, default=3.0, help="seconds that a line lasts, about")
    parser.add_argument("--away", type=float, default=2.0, help="seconds until a client comes back")
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(parser.parse_args(arguments), Path(directory)))


async def run(options: argparse.Namespace, directory: Path) -> None:
    """Start the servers, drop lines while events come, and report."""
    with ExitStack() as stack:
        environment = {}
        if options.layer != "memory":
            redis = stack.enter_context(RedisServer(directory=directory / "redis"))
            environment = {"SOAK_REDIS": redis.url, "SOAK_LAYER": LAYERS[options.layer], "SOAK_CHECK": "5"}
        servers = [
            stack.enter_context(
                ServerProcess(
                    kind=options.server,
                    log=directory / f"{number}.log",
                    application="tests.soak.asgi:application",
                    settings="tests.soak.settings",
                    environment=environment,
                )
            )
            for number in range(1 if options.layer == "memory" else 2)
        ]
        # Whoever comes back, comes back to the other process.
        clients = [
            Client(
                base_url=servers[number % len(servers)].base_url,
                others=[server.base_url for server in servers],
                topics=TOPICS,
                away=options.away,
            )
            for number in range(options.clients)
        ]
        await measure(options, servers, clients)
        report(options, clients, [await figures(server) for server in servers])


async def measure(options: argparse.Namespace, servers: list[ServerProcess], clients: list[Client]) -> None:
    """Send the events, and wait until every client has them."""
    total = options.events // PUBLISHERS * PUBLISHERS
    following = [
        asyncio.create_task(client.follow(until=total, cut_every=options.every)) for client in clients
    ]
    await asyncio.gather(*(client.opened.wait() for client in clients))
    async with httpx.AsyncClient(timeout=30) as http:
        for number in range(PUBLISHERS):
            order: dict[str, Any] = {
                "first": number,
                "publishers": 1,
                "count": total // PUBLISHERS,
                "seconds": total / options.rate,
                "topic": TOPICS,
            }
            server = servers[number % len(servers)]
            (await http.get(f"{server.base_url}/publish", params=order)).raise_for_status()
    expected = total * len(clients)
    with tqdm(total=expected, unit=" deliveries", disable=None) as bar:
        waiting = set(following)
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=0.2)
            bar.update(min(sum(client.total for client in clients), expected) - bar.n)
    for task in following:
        task.result()


async def figures(server: ServerProcess) -> dict[str, Any]:
    """Return what a server's hub has counted."""
    async with httpx.AsyncClient() as http:
        return dict((await http.get(f"{server.base_url}/health")).json())


def report(options: argparse.Namespace, clients: list[Client], hubs: list[dict[str, Any]]) -> None:
    """Print the outcome."""
    faults = Counter[str]()
    for client in clients:
        faults.update(client.faults())
    total = options.events // PUBLISHERS * PUBLISHERS * len(clients)
    delays = [1000 * delay for client in clients for delay in client.delays]
    cuts = statistics.quantiles(delays, n=100)
    rows = {
        "delivered": f"{100 * (total - faults['lost']) / total:.2f} % of {total:,}",
        "doubles": f"{faults['twice']:,}",
        "out of order": f"{faults['disordered']:,}",
        "resets": f"{faults['resets']:,}",
        "drops": f"{sum(client.connects - 1 for client in clients):,} of {options.away:g} s",
        "delay, while connected": f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms",
        "doorbells lost": f"{sum(hub['missed'] for hub in hubs):,}",
    }
    place = "1 process" if len(hubs) == 1 else f"{len(hubs)} processes"
    print(
        f"{len(clients)} clients, {options.rate:g} events/s, {options.server} ({place}), "
        f"layer {options.layer}, {os.cpu_count()} cores"
    )
    for name, value in rows.items():
        print(f"  {name:24}{value}")


if __name__ == "__main__":
    main()
