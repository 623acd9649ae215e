"""How events are worded for clients that do not speak ours.

An event is worded once for all streams of a dialect that are about to get it. Positions and ids stay as they
are. Nothing here raises: what stands in the history may be anybody's.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from django.http import HttpRequest

from django_sse.positions import Batch, Entry
from django_sse.wire import HEARTBEAT, Event, encode

#: Bytes up to which an entry is worded once for all streams that catch up, and how many are kept.
_SMALL: Final = 8192
_KEPT: Final = 128


class Dialect:
    """A wording of events, shared by all its streams."""

    def __init__(self, word: Callable[[Event], Event], *, heartbeat: bytes = HEARTBEAT) -> None:
        #: Returns an event in other words, or the same one.
        self.word = word
        self.heartbeat = heartbeat
        self._small = lru_cache(maxsize=_KEPT)(self._worded)

    def entry(self, entry: Entry) -> Entry:
        """Return the entry of the same position whose event is in other words."""
        return self._small(entry) if len(entry.frame) <= _SMALL else self._worded(entry)

    def batch(self, batch: Batch) -> Batch:
        """Return the batch of these entries, made once for all streams."""
        return batch.worded(self.entry)

    def _worded(self, entry: Entry) -> Entry:
        event = self.word(entry.event)
        return entry if event is entry.event else entry.with_event(event)


def _in_envelope(event: Event) -> Event:
    letter = {"e": event.name, "d": event.text}
    return Event(text=json.dumps(letter, ensure_ascii=False, separators=(",", ":")))


#: For clients that see only messages: every event is one, which carries its name.
ENVELOPE: Final = Dialect(_in_envelope, heartbeat=encode(_in_envelope(Event(name="sse-heartbeat", text=""))))


def envelope_of(request: HttpRequest) -> Dialect | None:
    """Return the envelope where a request asks for it."""
    return ENVELOPE if request.GET.get("envelope") == "1" else None
