"""What a block has sent, in plain pytest and in Django's test cases."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, overload

from django.db import connections

from django_sse.commits import sendings
from django_sse.positions import Entry
from django_sse.publishing import Recipients, topics_of
from django_sse.signals import event_sent


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedEvent:
    """An event that was sent to a topic, or that waits for the commit."""

    topic: str
    name: str
    text: str
    #: Whether it waits for the commit of a transaction, as everything does in Django's TestCase.
    pending: bool

    @property
    def data(self) -> Any:
        """The text read as JSON; raises ValueError where it is none."""
        return json.loads(self.text)


class CapturedEvents(Sequence[CapturedEvent]):
    """The events since a moment: what was sent, then what waits for a commit, each in order.

    What was rolled back is not among them. In a process that serves streams the events of other requests
    are, too.
    """

    def __init__(self) -> None:
        self._sent: list[CapturedEvent] = []
        self._before = {alias: _waiting(alias) for alias in connections}
        self._left: list[CapturedEvent] | None = None

    def note(self, *, entry: Entry, **_: object) -> None:
        """Take what was sent: a receiver of the signal."""
        name, text = entry.event.name, entry.event.text
        self._sent.append(CapturedEvent(topic=entry.topic, name=name, text=text, pending=False))

    def finish(self) -> None:
        """Keep what is pending now: what happens to it later is another block's business."""
        self._left = self.pending

    @property
    def sent(self) -> list[CapturedEvent]:
        """What stands in the history."""
        return list(self._sent)

    @property
    def pending(self) -> list[CapturedEvent]:
        """What waits for a commit; nobody hears of it before."""
        if self._left is not None:
            return list(self._left)
        return [
            CapturedEvent(topic=topic, name=waits.event.name, text=waits.event.text, pending=True)
            for alias, before in self._before.items()
            for waits in sendings(callback for callback in _waiting(alias) if callback not in before)
            for topic in waits.topics
        ]

    def to(self, recipient: Recipients) -> list[CapturedEvent]:
        """Return the events to a topic or a user, or to any of several."""
        topics = topics_of(recipient)
        return [event for event in self if event.topic in topics]

    def named(self, name: str) -> list[CapturedEvent]:
        """Return the events of a name."""
        return [event for event in self if event.name == name]

    @overload
    def __getitem__(self, index: int) -> CapturedEvent: ...

    @overload
    def __getitem__(self, index: slice) -> list[CapturedEvent]: ...

    def __getitem__(self, index: int | slice) -> CapturedEvent | list[CapturedEvent]:
        return [*self._sent, *self.pending][index]

    def __len__(self) -> int:
        return len(self._sent) + len(self.pending)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self)!r}>"


def _waiting(alias: str) -> list[object]:
    connection: Any = connections[alias]
    return [callback for _, callback, _ in connection.run_on_commit]


@contextmanager
def capture_events() -> Iterator[CapturedEvents]:
    """Return the events of a block, which are sent as ever; they may be asked for in it and behind it."""
    events = CapturedEvents()
    event_sent.connect(events.note)
    try:
        yield events
    finally:
        event_sent.disconnect(events.note)
        events.finish()
