"""The demo's own tests, in the demo's own settings."""

import os
import re
import subprocess
import sys

from tests.servers.process import ROOT


def manage(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo's manage.py, with every warning an error."""
    # Named, because pytest-django has put the tests' own settings into the environment.
    command = [
        sys.executable,
        "-W",
        "error",
        "testproject/manage.py",
        *arguments,
        "--settings=testproject.settings",
    ]
    environment = os.environ | {"DEMO_DATABASE": ":memory:"}  # whoever tries the demo here keeps theirs
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_demo() -> None:
    """All tests of the demo pass."""
    run = manage("test", "testproject.demo")

    assert run.returncode == 0, run.stderr
    assert re.search(r"^OK$", run.stderr, re.MULTILINE), run.stderr  # "OK (skipped=1)" is none
    ran = re.search(r"^Ran (\d+) tests", run.stderr, re.MULTILINE)
    assert ran
    assert int(ran[1]) >= 14


def test_no_migration_is_missing() -> None:
    """The demo's migrations make the tables of its models."""
    run = manage("makemigrations", "--check", "--dry-run")

    assert run.returncode == 0, run.stdout + run.stderr
