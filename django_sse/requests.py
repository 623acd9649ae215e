"""What a request tells beside what Django makes of it."""

import time
from collections.abc import MutableMapping
from typing import Any, Final

from django.http import HttpRequest

#: The key of the request's scope or environ where its beginning is noted, by the monotonic clock.
STARTED: Final = "django_sse.started"


def stamp(carrier: MutableMapping[str, Any]) -> None:
    """Note in a request's scope or environ that it begins now."""
    carrier[STARTED] = time.monotonic()


def began(request: HttpRequest) -> float:
    """Return when a request began, by the monotonic clock; now, where that was not noted."""
    now = time.monotonic()
    carrier = getattr(request, "scope", None) or getattr(request, "environ", None) or {}
    started: float = carrier.get(STARTED, now)
    return started


def is_asgi(request: HttpRequest) -> bool:
    """Tell whether a request came through ASGI; under WSGI a stream would hold its worker for ever."""
    return hasattr(request, "scope")


def last_event_id(request: HttpRequest) -> str:
    """Return the id that a client comes back with, empty where it brings none.

    Browsers send the header; polyfills, and pages that carry a cursor, the query parameter.
    """
    return request.headers.get("Last-Event-ID", "") or request.GET.get("lastEventId", "")
