"""A visitor of an ordinary page, in a process of their own: what the fan-out leaves for others."""

import http.client
import json
import selectors
import statistics
import subprocess
import sys
import time
from typing import Self

from tests.bench.contenders import Program


class Pages:
    """Asks for the page again and again while the block runs; then tells how long the answers took."""

    def __init__(self, program: Program) -> None:
        self._words = [sys.executable, "-m", "tests.bench.pages", program.host, str(program.port)]
        self._seconds: list[float] = []
        self._took = 0.0

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._words, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        return self

    def __exit__(self, *_: object) -> None:
        told, __ = self._process.communicate("enough\n", timeout=120)
        figures: tuple[list[float], float] = json.loads(told)
        self._seconds, self._took = figures

    @property
    def p99(self) -> float:
        """The time in milliseconds that 99 of 100 answers kept."""
        return 1000 * statistics.quantiles(self._seconds, n=100)[98]

    @property
    def rate(self) -> float:
        """Answers in a second, asked for one after the other."""
        return len(self._seconds) / self._took


def main() -> None:
    """Visit until a line comes in, then print the seconds of each answer, and of all."""
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=60)
    seconds: list[float] = []
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        print("begun", flush=True)
        began = time.monotonic()
        while len(seconds) < 2 or not selector.select(0):
            asked = time.monotonic()
            connection.request("GET", "/page")
            connection.getresponse().read()
            seconds.append(time.monotonic() - asked)
    print(json.dumps([seconds, time.monotonic() - began]))


if __name__ == "__main__":
    main()
