"""A process that is killed at any step leaves an event if and only if its transaction was committed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from tests.servers.mariadb import MariaDBServer
from tests.servers.postgres import PostgresServer
from tests.servers.process import ROOT

pytestmark = pytest.mark.servers

SETTINGS: Final = "tests.servers.outbox.settings"
#: Where the process dies, and whether its transaction has been committed there.
STEPS: Final = {
    "before the event": False,
    "before the commit": False,
    "after the commit": True,
    "in the append": True,
    "before the append's commit": True,
    "after the append": True,
    "after the doorbell": True,
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Return what makes the site use a database, with its tables in it."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("outbox") / "db.sqlite3"
        yield made({"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)})
    elif request.param == "mariadb":
        with MariaDBServer() as mariadb:
            yield made(mariadb.database)
    else:
        with PostgresServer() as postgres:
            yield made(postgres.database)


def made(database: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that names a database, whose tables are made."""
    environment = {"SITE_DATABASE": json.dumps(database)}
    run(environment, "migrate", "--verbosity=0", "--skip-checks")
    return environment


def run(environment: Mapping[str, str], *words: str, dies: bool = False) -> str:
    """Run a command of the site; it must end well, or be killed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "django", *words],
        cwd=ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": SETTINGS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == (-signal.SIGKILL if dies else 0), done.stderr
    return done.stdout


def report(environment: Mapping[str, str]) -> dict[str, Any]:
    """Sweep, and return which steps the database has rows of, and which events of each topic."""
    found: dict[str, Any] = json.loads(run(environment, "report"))
    return found


def test_there_is_an_event_if_and_only_if_there_is_a_commit(environment: dict[str, str]) -> None:
    """Killed at every step: nothing lost, nothing phantom, nothing twice."""
    for step in STEPS:
        run(environment, "die", step, dies=True)

    found = report(environment)

    committed = [step for step, is_committed in STEPS.items() if is_committed]
    assert found["rows"] == committed
    # What was left comes when it is swept, behind what was sent meanwhile.
    assert sorted(found["orders"]) == sorted(found["room.5"]) == sorted(committed)
    assert report(environment) == found


def test_many_die_at_any_moment(environment: dict[str, str]) -> None:
    """Killed from outside, wherever they are, while others write: rows and events are the same."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "django", "write", f"{number}"],
            cwd=ROOT,
            env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": SETTINGS},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for number, process in enumerate(processes):
        assert process.stdout is not None
        for _ in range(5 + 3 * number):
            process.stdout.readline()
        process.kill()
        process.communicate(timeout=30)

    found = report(environment)

    written = [row for row in found["rows"] if row not in STEPS]
    assert len(written) >= 5 + 8 + 11 + 14
    for topic in ("orders", "room.5"):
        events = [event for event in found[topic] if event not in STEPS]
        assert sorted(events) == sorted(written)
