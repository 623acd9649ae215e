"""Server-Sent Events for Django: no event lost silently, one template tag away.

Importing this package needs no settings.
"""

from django_sse.exceptions import CursorError, EventError, HistoryError, PublishError, SSEError, TopicError
from django_sse.fragments import asend_fragment, send_fragment
from django_sse.publishing import aget_cursor, asend_event, get_cursor, send_event
from django_sse.responses import EventStreamResponse
from django_sse.revoking import arevoke, revoke
from django_sse.topics import user_topic
from django_sse.wire import Event

__version__ = "0.1.0"

__all__ = [
    "CursorError",
    "Event",
    "EventError",
    "EventStreamResponse",
    "HistoryError",
    "PublishError",
    "SSEError",
    "TopicError",
    "aget_cursor",
    "arevoke",
    "asend_event",
    "asend_fragment",
    "get_cursor",
    "revoke",
    "send_event",
    "send_fragment",
    "user_topic",
]
