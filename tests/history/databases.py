"""Databases that tests add to the settings, with the history's tables in them."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import DjangoDbBlocker

from django_sse.history.database import DatabaseHistory

TABLES = ("topic", "entry", "key", "clock", "outbox")


#: SQLite needs no server; the others are really run.
VENDORS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.servers),
    pytest.param("mariadb", marks=pytest.mark.servers),
]
every_database = pytest.mark.parametrize("vendor", VENDORS)

#: `make(vendor, **options)`.
Make = Callable[..., DatabaseHistory]
T = TypeVar("T")


def aside(function: Callable[..., T], *values: Any) -> T:
    """Call what uses the database in a thread that ends: an event loop may run in this one."""

    def call() -> T:
        try:
            return function(*values)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


@contextmanager
def added(alias: str, database: Mapping[str, Any], *, blocker: DjangoDbBlocker) -> Iterator[str]:
    """Add a database to the settings for a while, and make its tables."""
    connections.settings[alias] = connections.configure_settings({"default": dict(database)})["default"]
    try:
        with blocker.unblock():
            aside(lambda: call_command("migrate", database=alias, verbosity=0))
        yield alias
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]


def execute(alias: str, statement: str, *values: Any) -> int:
    """Execute a statement, and return how many rows it met."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, values)
        count: int = cursor.rowcount
        return count


def empty(alias: str) -> None:
    """Lose everything."""
    for table in TABLES:
        execute(alias, f"DELETE FROM django_sse_{table}")
