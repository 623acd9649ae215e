"""The benchmarks of the promise run, and say what they should; what they measure is not judged here."""

import pytest

from tests.bench import appends, drops, staleness

pytestmark = pytest.mark.servers


def test_drops(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run delivers everything, and says so."""
    drops.main(["--clients=4", "--events=200", "--rate=100", "--every=0.5", "--away=0.2"])

    printed = capsys.readouterr().out
    assert "100.00 % of 800" in printed
    assert printed.count(" 0\n") >= 3


def test_appends(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run has a rate for each way."""
    appends.main(["--events=1000", "--rounds=1"])

    assert capsys.readouterr().out.count("events/s\n") == 5


def test_staleness(capsys: pytest.CaptureFixture[str]) -> None:
    """With the layer dead every event comes."""
    staleness.main(["--check=0.5", "--events=20", "--rate=20"])

    assert "20 events, CHECK 0.5 s, layer dead" in capsys.readouterr().out
