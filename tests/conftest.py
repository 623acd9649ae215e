"""What every test may use, and the rule that CI skips nothing."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections

from django_sse.asgi import LeanHandler
from tests.servers.process import Kind, Serve, ServerProcess
from tests.visits import Visit, close_really

CI = bool(os.environ.get("CI"))

# A slow machine is no failure; in CI one state of the sources gives one result.
hypothesis.settings.register_profile("house", deadline=None, derandomize=CI)
hypothesis.settings.load_profile("house")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return `serve(kind, **fields of ServerProcess)`: a server that ends with the test."""
    with ExitStack() as started:

        def start(kind: Kind, **options: Any) -> ServerProcess:
            log = tmp_path / f"{kind}-{len(list(tmp_path.glob('*.log')))}.log"
            server = ServerProcess(kind=kind, log=log, **options)
            started.callback(lambda: print(server.tail()))  # pytest shows it where the test failed
            return started.enter_context(server)

        yield start


@pytest.fixture
async def database(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Give the test a database, whose connections are closed as if it were on disk."""
    close_really(monkeypatch)
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture(params=[ASGIHandler, LeanHandler])
def handler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Visit through Django's own handler, and through the lean one."""
    monkeypatch.setattr(Visit, "handler", request.param)


_not_run: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each test that did not run to a clear end, expected failures too."""
    if report.skipped:
        _not_run.append(f"{report.nodeid}: {report.longrepr}")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note each module that was skipped as a whole."""
    if report.skipped:
        _not_run.append(f"{report.nodeid}: {report.longrepr}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run in CI where a test was skipped."""
    if CI and _not_run:
        session.exitstatus = max(session.exitstatus, pytest.ExitCode.TESTS_FAILED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests were skipped, where that is a failure."""
    if CI and _not_run:
        terminalreporter.section("skipped in CI, which is a failure", red=True)
        for line in _not_run:
            terminalreporter.line(line)
