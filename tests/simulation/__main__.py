"""Run one world: ``python -m tests.simulation SEED``, with ``--history-faults`` or without."""

import argparse
import os
from random import Random

import django

from tests.simulation.plan import Plan


def main() -> None:
    """Print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", type=int)
    parser.add_argument("--history-faults", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from tests.simulation.runs import run  # noqa: PLC0415  (it needs Django's settings)

    report = run(options.seed, Plan.draw(Random(options.seed), history_faults=options.history_faults))
    print(report)
    print(f"{report.events} events, {report.resets} resets, {report.connects} connections")
    print(f"transcript {report.transcript}")


if __name__ == "__main__":
    main()
