"""Django signals that this package sends.

Receivers may be plain functions or coroutines; what they raise is logged and goes no further.
"""

from django.dispatch import Signal

#: An event stands in the history: ``sender`` is the publishing module's `Entry` class, ``entry`` the entry.
event_sent = Signal()
#: A stream has its positions: ``sender`` is `Stream`, ``stream`` the stream.
stream_opened = Signal()
#: A stream has ended: ``sender`` is `Stream`, ``stream`` the stream.
stream_closed = Signal()
