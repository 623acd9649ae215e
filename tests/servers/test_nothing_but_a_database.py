"""Several processes, and a shell, with nothing between them but a database."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.servers.mariadb import MariaDBServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import ROOT, Kind, Serve, ServerProcess
from tests.soak.clients import Client

pytestmark = pytest.mark.servers

#: Events of each of four bursts at once.
COUNT = 50
SETTINGS = "tests.soak.settings"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return what makes the site use a database, with its tables in it."""
    if request.param == "sqlite":
        yield made({"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")})
    elif request.param == "mariadb":
        with MariaDBServer() as mariadb:
            yield made(mariadb.database)
    else:
        # Nothing is found by the tail check: what arrives, PostgreSQL has announced.
        with PostgresServer() as postgres:
            yield made(postgres.database) | {"SOAK_CHECK": "3600"}


def made(database: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that names a database, whose tables are made."""
    environment = {"SOAK_DATABASE": json.dumps(database)}
    manage(environment, "migrate", "--verbosity=0", "--skip-checks")
    return environment


def manage(environment: Mapping[str, str], *words: str) -> None:
    """Run a management command of the site."""
    command = [sys.executable, "-m", "django", *words]
    environment = {**os.environ, **environment, "DJANGO_SETTINGS_MODULE": SETTINGS}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)


@pytest.fixture
def sites(serve: Serve, environment: dict[str, str]) -> list[ServerProcess]:
    """Return two processes of one site."""
    kinds: tuple[Kind, Kind] = ("uvicorn", "daphne")
    application = "tests.soak.asgi:application"
    return [
        serve(kind, application=application, settings=SETTINGS, environment=environment) for kind in kinds
    ]


async def test_processes_and_a_shell_are_one_site(
    sites: list[ServerProcess], environment: dict[str, str]
) -> None:
    """Clients of both processes get what both and a shell send, each once and in order."""
    topics = ["soak.a", "soak.b"]
    clients = [Client(base_url=site.base_url, topics=topics) for site in sites for _ in range(2)]
    async with asyncio.timeout(90), asyncio.TaskGroup() as following:
        for client in clients:
            following.create_task(client.follow(until=4 * COUNT + 1))
        await asyncio.gather(*(client.opened.wait() for client in clients))
        async with httpx.AsyncClient(timeout=60) as http:
            bursts = [
                http.get(f"{site.base_url}/burst", params={"topic": topic, "count": COUNT, "size": 20})
                for site in sites
                for topic in topics
            ]
            for answer in await asyncio.gather(*bursts):
                answer.raise_for_status()
        data = '{"publisher": 1, "n": 0}'
        await asyncio.to_thread(manage, environment, "sse_send", "soak.a", "tick", data)
    for client in clients:
        assert client.faults() == {"lost": 0, "twice": 0, "disordered": 0, "resets": 0}
