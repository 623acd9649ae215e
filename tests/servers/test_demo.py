"""One command shows the demo, and says so when it cannot."""

import os
import re
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers.process import ROOT, Kind, ServerProcess, becomes_true
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.servers

RUN = str(ROOT / "testproject" / "run")


@dataclass(kw_only=True, slots=True, eq=False)
class Demo(ServerProcess):
    """The demo as its users start it."""

    kind: Kind = "daphne"

    def command(self) -> list[str]:
        """Word the one command."""
        return [RUN, "--port", str(self.port), *self.arguments]


@pytest.mark.parametrize("time", ["first", "second"])
def test_the_demo_serves_its_page_and_ctrl_c_ends_it(tmp_path: Path, time: str) -> None:
    """Started again and again, it prints its address, serves page and styles, and ends with a stream open."""
    demo = Demo(log=tmp_path / f"{time}.log")
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


def test_two_processes_on_redis(tmp_path: Path) -> None:
    """What is done at one of them is seen at the other, and Ctrl-C ends both."""
    with RedisServer(directory=tmp_path / "redis") as redis:
        demo = Demo(log=tmp_path / "log", arguments=("--redis", redis.url, "--processes", "2"))
        try:
            demo.start(within=240)
            other = f"http://{demo.host}:{demo.port + 1}"
            assert f"{other}/\n" in demo.tail()
            assert becomes_true(lambda: _answers(other), within=30)
            with (
                httpx.stream("GET", f"{other}/events/?topic=jobs", timeout=30) as response,
                httpx.Client(base_url=demo.base_url) as client,
            ):
                lines = response.iter_lines()
                assert "event: sse-open" in lines
                token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', client.get("/job/").text)
                assert token
                assert client.post("/job/start/", data={"csrfmiddlewaretoken": token[1]}).status_code == 204
                assert "event: progress" in lines
            os.kill(demo.pid, signal.SIGINT)
            assert becomes_true(lambda: not demo.group(), within=10)
        finally:
            demo.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def test_a_taken_port_is_said_before_anything_is_done() -> None:
    """One line names the port and the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        run = subprocess.run([RUN, "--port", port], capture_output=True, text=True, check=False, timeout=60)

    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == (
        f"testproject/run: cannot serve on 127.0.0.1 port {port}: it is in use; choose another with --port\n"
    )


def test_a_redis_that_is_not_there_is_said() -> None:
    """Before anything is done, and with what to do."""
    with socket.socket() as nothing:
        nothing.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{nothing.getsockname()[1]}/0"
        command = [RUN, "--port", "0", "--redis", url]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith(f"testproject/run: no Redis at {url}: ")
    assert run.stderr.endswith("; start one with redis-server\n")


@pytest.mark.parametrize("arguments", [["--port"], ["--nonsense"], ["--processes", "2"], ["--redis"]])
def test_wrong_arguments_show_the_right_ones(arguments: list[str]) -> None:
    """What is not understood is answered with the usage."""
    run = subprocess.run([RUN, *arguments], capture_output=True, text=True, check=False, timeout=60)

    assert run.returncode == 2
    assert run.stderr.startswith("Usage: testproject/run")
