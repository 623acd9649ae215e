"""Pages of other sites: who of them may open a stream, and read it.

A browser names the page's origin where that is another site's; a page of one's own is not named, as streams
are asked for with GET. What is not allowed is refused, rather than opened and kept from being read.
"""

from typing import Final

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

from django_sse.conf import get_settings

#: Seconds that a browser remembers what a preflight was told.
_REMEMBERED: Final = 600
#: What scripts may send beside what browsers always may, those of htmx 4 and Datastar included; EventSource
#: needs none of it.
_HEADERS: Final = (
    "Authorization, Cache-Control, Last-Event-ID, Datastar-Request, HX-Boosted, HX-Current-URL, HX-Request, "
    "HX-Request-Type, HX-Source, HX-Target"
)


def foreign_origin(request: HttpRequest) -> str | None:
    """Return the origin of a page of another site, None where a request comes from none."""
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    try:
        own = f"{request.scheme}://{request.get_host()}"
    except DisallowedHost:
        return origin
    return None if origin == own else origin


def is_allowed(origin: str | None) -> bool:
    """Tell whether an origin is none, or one that the project allows."""
    return origin is None or origin in get_settings().ALLOWED_ORIGINS


def let_read(response: HttpResponseBase, origin: str | None) -> None:
    """Let the pages of an allowed origin read a response; keep caches from giving it to others."""
    patch_vary_headers(response, ("Origin",))
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"


def preflight(request: HttpRequest) -> HttpResponse | None:
    """Answer a browser that asks whether it may ask; None where that is no such request.

    Source: Fetch, 3.2.2 (CORS-preflight request).
    """
    if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
        return None
    headers = {
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Allow-Headers": _HEADERS,
        "Access-Control-Max-Age": str(_REMEMBERED),
    }
    return HttpResponse(status=204, headers=headers)
