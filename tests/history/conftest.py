"""The databases that the tests of histories share."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connections
from pytest_django import DjangoDbBlocker

from django_sse.history.database import DatabaseHistory
from tests.history.databases import Make, added, aside, empty
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Return the alias of a database in a file."""
    path = tmp_path_factory.mktemp("sqlite") / "db.sqlite3"
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
    with added("sse_sqlite", database, blocker=django_db_blocker) as alias:
        yield alias


@pytest.fixture(scope="session")
def postgresql(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Return the alias of a database of PostgreSQL."""
    with (
        PostgresServer() as server,
        added("sse_postgresql", server.database, blocker=django_db_blocker) as alias,
    ):
        yield alias


@pytest.fixture(scope="session")
def mariadb(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Return the alias of a database of MariaDB."""
    with (
        MariaDBServer() as server,
        added("sse_mariadb", server.database, blocker=django_db_blocker) as alias,
    ):
        yield alias


@pytest.fixture
def make(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[Make]:
    """Return `make(vendor, **options)`: an empty history in such a database, closed with the test."""
    with ExitStack() as made, django_db_blocker.unblock():

        def history(vendor: str, **options: Any) -> DatabaseHistory:
            alias = request.getfixturevalue(vendor)
            aside(empty, alias)
            history = DatabaseHistory(using=alias, timeout=10, **options)
            made.callback(history.close)
            made.callback(connections[alias].close)  # this thread's own
            return history

        yield history
