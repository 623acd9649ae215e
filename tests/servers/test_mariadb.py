"""The MariaDB of the tests serves Django, and leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from tests.servers.mariadb import MariaDBServer
from tests.servers.process import ROOT, becomes_true

pytestmark = pytest.mark.servers


def test_django_talks_to_it_and_then_it_is_gone(django_db_blocker: DjangoDbBlocker) -> None:
    """Django finds a version that it supports, any text is kept, and databases may be made."""
    with MariaDBServer() as server, django_db_blocker.unblock():
        assert runs(server.pid)
        connection = ConnectionHandler({"default": server.database})["default"]
        with connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            assert "MariaDB" in cursor.fetchone()[0]
            cursor.execute("CREATE DATABASE another")
            cursor.execute("CREATE TABLE another.texts (text varchar(9))")
            cursor.execute("INSERT INTO another.texts VALUES (%s)", ["naïve 🙂"])
            cursor.execute("SELECT text FROM another.texts")
            assert cursor.fetchall() == (("naïve 🙂",),)
        connection.close()

    assert not server.directory.exists()
    assert not runs(server.pid)


def test_it_ends_with_a_test_run_that_is_killed() -> None:
    """When the test run dies without cleaning up, the server ends by itself."""
    command = [sys.executable, "-m", "tests.servers.test_mariadb"]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, timeout=120)
    assert run.returncode == -signal.SIGKILL
    pid, directory = run.stdout.splitlines()
    try:
        assert becomes_true(lambda: not runs(int(pid)), within=10)
    finally:
        shutil.rmtree(directory)


def runs(pid: int) -> bool:
    """Tell whether this process lives."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # as a zombie's is
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    server = MariaDBServer().start()
    print(server.pid, server.directory, sep="\n", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
