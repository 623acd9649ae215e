"""One open connection."""

from django_sse.streams.base import BaseStream, Outlet, reserved_event
from django_sse.streams.iterators import END_ID, IteratorStream, Streamable
from django_sse.streams.topics import FirstState, Stream
from django_sse.streams.worded import WordedStream

__all__ = [
    "END_ID",
    "BaseStream",
    "FirstState",
    "IteratorStream",
    "Outlet",
    "Stream",
    "Streamable",
    "WordedStream",
    "reserved_event",
]
