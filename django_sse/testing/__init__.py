"""What projects test their events and their streams with, in plain pytest and in Django's test cases."""

from django_sse.testing.captures import CapturedEvent, CapturedEvents, capture_events
from django_sse.testing.readers import ReceivedEvent, StreamReader, read_stream

__all__ = [
    "CapturedEvent",
    "CapturedEvents",
    "ReceivedEvent",
    "StreamReader",
    "capture_events",
    "read_stream",
]
