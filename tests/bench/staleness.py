"""How late an event comes while the channel layer is dead, and the history lives.

Two processes, of which one publishes and the other has the streams, a Redis for the history and another
one, which is killed, for the layer. The bound is 1.2 times CHECK and one read.

``python -m tests.bench.staleness``
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from tests.servers.process import ServerProcess
from tests.servers.redis import RedisServer
from tests.soak.clients import Client


def main(arguments: Sequence[str] | None = None) -> None:
    """Publish, and print how late the events came."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.staleness", description=__doc__)
    parser.add_argument("--check", type=float, default=5.0, help="seconds between two tail checks")
    parser.add_argument("--events", type=int, default=600)
    parser.add_argument("--rate", type=float, default=10.0, help="events in a second")
    parser.add_argument("--layer", default="channels_redis.core.RedisChannelLayer")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        delays = sorted(asyncio.run(run(options, Path(directory))))
    bound = 1.2 * options.check
    print(
        f"{len(delays)} events, CHECK {options.check:g} s, layer dead: "
        f"median {statistics.median(delays):.2f} s, longest {delays[-1]:.2f} s; "
        f"the bound is {bound:.2f} s and one read"
    )


async def run(options: argparse.Namespace, directory: Path) -> list[float]:
    """Return the delay of each event, in seconds."""
    with ExitStack() as stack:
        history = stack.enter_context(RedisServer(directory=directory / "history"))
        layer = stack.enter_context(RedisServer(directory=directory / "layer"))
        environment = {
            "SOAK_REDIS": layer.url,
            "SOAK_LAYER": options.layer,
            "SOAK_CHECK": str(options.check),
            "SOAK_HISTORY": history.url,
        }
        serving, publishing = (
            stack.enter_context(
                ServerProcess(
                    kind="uvicorn",
                    log=directory / f"{number}.log",
                    application="tests.soak.asgi:application",
                    settings="tests.soak.settings",
                    environment=environment,
                )
            )
            for number in range(2)
        )
        client = Client(base_url=serving.base_url, topics=["soak.a"])
        following = asyncio.create_task(client.follow(until=options.events))
        await client.opened.wait()
        layer.kill()
        order: dict[str, Any] = {
            "publishers": 1,
            "count": options.events,
            "seconds": options.events / options.rate,
            "topic": "soak.a",
        }
        async with httpx.AsyncClient(timeout=30) as http:
            (await http.get(f"{publishing.base_url}/publish", params=order)).raise_for_status()
        with tqdm(total=options.events, unit=" events", disable=None) as bar:
            while not following.done():
                await asyncio.wait([following], timeout=0.2)
                bar.update(client.total - bar.n)
        await following
        faults = client.faults()
        if faults.total():
            raise RuntimeError(f"the promise does not hold: {faults}")
        return client.delays


if __name__ == "__main__":
    main()
