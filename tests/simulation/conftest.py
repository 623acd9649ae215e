"""The option that chooses other seeds."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add it; it is known where tests/simulation is named on the command line."""
    parser.addoption("--seeds", metavar="FROM:TO", help="the seeds of the simulation's worlds: FROM to TO-1")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each seed to the tests that ask for one."""
    if "seed" in metafunc.fixturenames:
        first, _, end = (metafunc.config.getoption("--seeds", default=None) or "0:50").partition(":")
        metafunc.parametrize("seed", range(int(first), int(end)))
