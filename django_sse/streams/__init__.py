"""One open connection."""

from django_sse.streams.base import BaseStream, Outlet, reserved_event
from django_sse.streams.iterators import END_ID, IteratorStream, Streamable
from django_sse.streams.topics import FirstState, Stream

__all__ = [
    "END_ID",
    "BaseStream",
    "FirstState",
    "IteratorStream",
    "Outlet",
    "Stream",
    "Streamable",
    "reserved_event",
]
