"""A stream of topics in the words of a dialect."""

from collections.abc import Sequence
from typing import Any

from django_sse.dialects import Dialect
from django_sse.positions import Batch, Entry
from django_sse.streams.base import BaseStream
from django_sse.streams.places import Place
from django_sse.streams.topics import Stream


class WordedStream(Stream):
    """A stream whose entries are worded before it takes them, so that what is bounded is what is written.

    A class of its own: streams of our own words pay nothing for this.
    """

    __slots__ = ("_dialect",)

    def __init__(self, *args: Any, dialect: Dialect, **options: Any) -> None:
        super().__init__(*args, **options)
        self.dialect = self._dialect = dialect

    @property
    def sender(self) -> type[BaseStream]:
        """The class that signals name: that of all streams of topics."""
        return Stream

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Take the next entries, worded once for all streams of the dialect."""
        super().offer(topic, self._dialect.batch(batch), at_once=at_once)

    def _put_fitting(self, place: Place, entries: Sequence[Entry]) -> bool:
        worded, room = [], self.settings.MAX_PENDING - self._pending
        for entry in entries:
            worded.append(self._dialect.entry(entry))
            room -= len(worded[-1].frame) + self._beside_size
            if room < 0:
                break  # what does not fit is read again: no use in wording all of a page each time
        return super()._put_fitting(place, worded) and len(worded) == len(entries)
