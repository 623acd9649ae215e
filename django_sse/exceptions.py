"""The error tree.

    SSEError
    ├── EventError      an event's name, text or data cannot be sent (also a ValueError)
    ├── TopicError      a topic's name is not valid (also a ValueError)
    ├── CursorError     a cursor does not parse (also a ValueError)
    ├── HistoryError    the history cannot be reached
    └── PublishError    an event could not be published

A wrong configuration raises Django's own ``ImproperlyConfigured``.
"""


class SSEError(Exception):
    """Root of every error that this package raises by itself."""


class EventError(SSEError, ValueError):
    """An event's name, text or data cannot be sent."""


class TopicError(SSEError, ValueError):
    """A topic's name is not valid."""


class CursorError(SSEError, ValueError):
    """A cursor does not parse."""


class HistoryError(SSEError):
    """The history cannot be reached."""


class PublishError(SSEError):
    """An event could not be published."""
