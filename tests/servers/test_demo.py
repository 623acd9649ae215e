"""One command shows the demo, and says so when it cannot."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.servers.process import ROOT, ServerProcess, becomes_true

pytestmark = pytest.mark.servers

RUN = str(ROOT / "testproject" / "run")


class Demo(ServerProcess):
    """The demo as its users start it."""

    __slots__ = ()

    def command(self) -> list[str]:
        """Word the one command."""
        return [RUN, "--port", str(self.port)]


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_demo_serves_its_page_and_ctrl_c_ends_it(tmp_path: Path, time: str) -> None:
    """Started again and again, it prints its address, serves page and styles, and ends with a stream open."""
    demo = Demo(kind="daphne", log=tmp_path / f"{time}.log")
    try:
        demo.start(within=240)
        assert f"{demo.base_url}/\n" in demo.tail()
        assert httpx.get(f"{demo.base_url}/", follow_redirects=True).status_code == 200
        assert httpx.get(f"{demo.base_url}/static/django_sse/sse.js").status_code == 200

        with httpx.stream("GET", f"{demo.base_url}/events/?topic=prices") as response:
            assert "event: sse-open" in response.iter_lines()
            os.kill(demo.pid, signal.SIGINT)
            assert becomes_true(lambda: not demo.group(), within=5)
    finally:
        demo.stop()


def test_a_taken_port_is_said_before_anything_is_done() -> None:
    """One line names the port and the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run([RUN, "--port", port], capture_output=True, text=True, check=False, timeout=60)

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"testproject/run: cannot serve on 127.0.0.1 port {port}: it is taken; choose another with --port\n"
    )


@pytest.mark.parametrize("arguments", [["--port"], ["--nonsense"]])
def test_wrong_arguments_show_the_right_ones(arguments: list[str]) -> None:
    """What is not understood is answered with the usage."""
    run = subprocess.run([RUN, *arguments], capture_output=True, text=True, check=False, timeout=60)

    assert run.returncode == 2
    assert run.stderr.startswith("Usage: testproject/run")
