"""Work that is done at a steady rate, and only while somebody watches."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from django_sse.exceptions import HistoryError, PublishError
from django_sse.signals import stream_closed, stream_opened

logger = logging.getLogger(__name__)


class WhileWatched:
    """Calls a function several times a second while streams of this process follow a topic.

    The function is given the number of the tick since the epoch. Two server processes count the same ones,
    so by an idempotency key what both of them send at a tick is one event.
    """

    def __init__(
        self,
        topic: str,
        act: Callable[[int], None],
        *,
        rate: float,
        linger: float = 5,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        self.topic = topic
        self._act = act
        self._rate = rate
        self._leave = leave  # called where it ends
        self._linger = linger  # seconds that it goes on without a stream: a page change is no end
        self._lock = threading.Lock()
        self._streams = 0
        self._is_running = False
        stream_opened.connect(self._opened)
        stream_closed.connect(self._closed)

    def now(self) -> int:
        """Return the number of the present tick."""
        return int(time.time() * self._rate)

    def _opened(self, *, stream: Any, **_: object) -> None:
        if self.topic not in getattr(stream, "topics", ()):
            return
        with self._lock:
            self._streams += 1
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name=self.topic, daemon=True).start()

    def _closed(self, *, stream: Any, **_: object) -> None:
        if self.topic in getattr(stream, "topics", ()):
            with self._lock:
                self._streams -= 1

    def _run(self) -> None:
        watched = time.monotonic()
        while True:
            time.sleep(1 / self._rate - time.time() % (1 / self._rate))
            with self._lock:
                if self._streams:
                    watched = time.monotonic()
                elif time.monotonic() > watched + self._linger:
                    self._is_running = False
            try:
                if not self._is_running:
                    return self._leave()
                self._act(self.now())
            except (HistoryError, PublishError):
                logger.warning("A tick of %r was not sent; it goes on.", self.topic, exc_info=True)
