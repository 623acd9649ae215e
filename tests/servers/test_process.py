"""A server under test answers while it is needed, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import cast, get_args

import httpx
import pytest

from tests.servers.process import ROOT, Kind, Serve, ServerProcess, StartError, becomes_true

pytestmark = pytest.mark.servers

ANSWER = "tests.servers.answer:application"
every_server = pytest.mark.parametrize("kind", get_args(Kind))


@every_server
def test_a_server_answers_and_is_gone_after_stop(serve: Serve, kind: Kind) -> None:
    """Every kind of server answers when started, and of its process group nothing is left when stopped."""
    server = serve(kind, application=ANSWER)

    assert httpx.get(f"{server.base_url}/hello").text == "/hello"
    assert 5_000_000 < server.rss() < 500_000_000
    assert server.pid in server.group()

    assert server.stop()
    assert server.group() == []


@every_server
def test_a_server_that_dies_at_start_gives_its_log(tmp_path: Path, kind: Kind) -> None:
    """The error names what the server wrote, and no process stays."""
    server = ServerProcess(kind=kind, application="tests.servers.nowhere:application", log=tmp_path / "log")

    with pytest.raises(StartError, match=r"(?s)its log ends:.*nowhere"):
        server.start()

    assert server.group() == []


def test_a_server_that_does_not_heed_sigterm_is_killed(serve: Serve) -> None:
    """An open response, for which uvicorn waits for good, delays the end by no more than the grace."""
    server = serve("uvicorn", application=ANSWER)
    with httpx.stream("GET", f"{server.base_url}/endless") as response:
        assert next(response.iter_text()) == "/endless"
        assert not server.stop(grace=0.2)
    assert server.group() == []


@every_server
def test_a_server_ends_with_a_test_run_that_is_killed(tmp_path: Path, kind: Kind) -> None:
    """When the test run dies without cleaning up, the servers that it started end by themselves."""
    log = tmp_path / "log"
    run = subprocess.run(
        [sys.executable, "-m", "tests.servers.test_process", kind, str(log)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    orphans = [Path(f"/proc/{pid}") for pid in run.stdout.split()]
    assert orphans
    assert becomes_true(lambda: not any(map(_runs, orphans)), within=10)


def _runs(process: Path) -> bool:
    return process.exists() and (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"


if __name__ == "__main__":
    _kind, _log = cast("Kind", sys.argv[1]), Path(sys.argv[2])
    print(*ServerProcess(kind=_kind, application=ANSWER, log=_log).start().group(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
