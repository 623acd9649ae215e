"""Django signals that this package sends.

Receivers may be plain functions or coroutines; what they raise is logged and goes no further.
"""

from django.dispatch import Signal

#: An event stands in the history: ``sender`` is `Entry`, ``entry`` the entry. A retry with a known
#: idempotency key says so again.
event_sent = Signal()
#: A stream has begun: ``sender`` is its class, ``stream`` the stream.
stream_opened = Signal()
#: A stream has ended: ``sender`` is its class, ``stream`` the stream.
stream_closed = Signal()
