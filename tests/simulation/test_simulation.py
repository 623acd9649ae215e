"""The promises, in worlds where everything breaks."""

import os
import subprocess
import sys
from random import Random

from tests.simulation.plan import Plan
from tests.simulation.runs import run


def test_without_history_faults_nothing_is_lost_and_nothing_reset(seed: int) -> None:
    """Every client gets every event, in order, once, whatever breaks but the history's entries."""
    report = run(seed, Plan.draw(Random(seed), history_faults=False))
    assert not report.findings, str(report)
    assert report.resets == 0, str(report)
    assert report.events > 0


def test_with_history_faults_every_loss_is_announced(seed: int) -> None:
    """Where the history loses entries, a reset comes before anything later."""
    report = run(seed, Plan.draw(Random(seed), history_faults=True))
    assert not report.findings, str(report)
    assert report.events > 0


def test_one_seed_gives_one_run() -> None:
    """The same seed gives the same bytes at the same moments; another seed gives others."""
    plan = Plan.draw(Random(1), history_faults=True)
    first = run(1, plan)
    assert run(1, plan) == first
    assert run(2, plan).transcript != first.transcript


def test_another_process_gives_the_same_run() -> None:
    """Nothing hangs on the order of a set: hashes that another process draws change nothing."""
    report = run(3, Plan.draw(Random(3), history_faults=True))
    command = [sys.executable, "-m", "tests.simulation", "3", "--history-faults"]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"transcript {report.transcript}" in printed
