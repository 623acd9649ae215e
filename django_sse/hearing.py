"""Whether anybody hears what this process sends."""

import logging
from threading import Lock

from django_sse import layers
from django_sse.forks import after_fork
from django_sse.history import get_history
from django_sse.positions import Entry

logger = logging.getLogger(__name__)


class _Hearing:
    """What this process knows about being heard."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.requested = False
        self.warned = False


_hearing = _Hearing()


def _after_fork() -> None:
    # Another process, whose requests and warnings are its own.
    global _hearing  # noqa: PLW0603
    _hearing = _Hearing()


after_fork(_after_fork)


def note_request() -> None:
    """Remember that this process answers requests, so it may have streams."""
    _hearing.requested = True


def ring(entry: Entry) -> None:
    """Ring the doorbell; say once where nobody can hear it."""
    if layers.ring(entry) or _hearing.requested or _hearing.warned or get_history().shared:
        return
    with _hearing.lock:
        if _hearing.warned:
            return
        _hearing.warned = True
    logger.warning(
        "Nobody hears the events of this process: their history is in its own memory, and no request ever "
        "came here. Send them in the process that serves the streams (its views, signals, threads), or "
        "configure a channel layer and a history that processes share: see CHANNEL_LAYERS and "
        "DJANGO_SSE['HISTORY'] in the documentation. This is said once."
    )
