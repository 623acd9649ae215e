"""One way of sending, in a process of its own: told on its input how often, it answers how long it took.

``BENCH_SETTINGS`` are Django's settings, as JSON; ``BENCH_PACKAGE`` is whose ``send_event`` is called.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import django
from django.conf import settings
from django.core.management import call_command
from django.utils.module_loading import import_string

from tests.bench.sites.order import TOPIC

EVENT: Final = "tick"
DATA: Final = {"symbol": "ABC", "price": 12.5}


class Fatal(logging.Handler):
    """What is logged as an error ends the run: a send that fails is no figure."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise."""
        raise RuntimeError(record.getMessage())


def main() -> None:
    """Answer that it is ready, or why it cannot be; then carry out orders until there is no more."""
    options = json.loads(os.environ["BENCH_SETTINGS"])
    settings.configure(**options)
    try:
        django.setup()
        send = import_string(f"{os.environ['BENCH_PACKAGE']}.send_event")
        if (history := options.get("DJANGO_SSE", {}).get("HISTORY")) is not None:
            import_string(history["BACKEND"])
    except ImportError as error:
        _answer({"missing": str(error)})
        return
    logging.getLogger().addHandler(Fatal(logging.ERROR))
    # Also opens the connection, which a worker or a request has.
    call_command("migrate", verbosity=0)
    _answer({})
    for line in sys.stdin:
        _answer(_measure(send, int(line)))


def _measure(send: Callable[[str, str, Any], None], calls: int) -> dict[str, float]:
    unsent, cpu, began = _unsent(), time.process_time(), time.perf_counter()
    for _ in range(calls):
        send(TOPIC, EVENT, DATA)
    took = time.perf_counter() - began
    _drain()
    figures = {"call": 1e6 * took / calls, "cpu": 1e6 * (time.process_time() - cpu) / calls}
    if (now := _unsent()) is not None:
        figures["unsent"] = now - (unsent or 0)
    return figures


def _drain() -> None:
    """Wait until this package's thread, where it has one, has told the layer."""
    if (layers := sys.modules.get("django_sse.layers")) is not None:
        layers._process.finish()


def _unsent() -> int | None:
    layers = sys.modules.get("django_sse.layers")
    bell = None if layers is None else layers._process._bell
    return None if bell is None else bell.unsent


def _answer(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
