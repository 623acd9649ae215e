"""The HTML that connects a page.

Plain functions, which any template engine can call; the template tags are skins over them.
"""

import logging
import time
from collections.abc import Collection
from urllib.parse import urlencode

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from django_sse.conf import get_settings
from django_sse.exceptions import HistoryError
from django_sse.history import get_history
from django_sse.positions import Cursor
from django_sse.requests import began
from django_sse.topics import check_topic, user_topic

logger = logging.getLogger(__name__)


def script(*, nonce: object = None) -> SafeString:
    """Return the element that loads the script, once per page.

    ``nonce`` is the Content Security Policy's, lazy ones too: it is read here, so the policy carries it.
    """
    return format_html(
        '<script src="{}" defer data-polyfill="{}"{}></script>',
        static("django_sse/sse.js"),
        static("django_sse/vendor/eventsource.min.js"),
        "" if nonce is None else format_html(' nonce="{}"', str(nonce)),
    )


def stream(request: HttpRequest, topics: Collection[str] = ()) -> SafeString:
    """Return the element that follows the user's own topic and these; nothing where there is none to follow.

    Its cursor is that of the rendering: an event that the page's view came too early to see is still brought.
    """
    named = list(dict.fromkeys(check_topic(topic) for topic in topics))
    user = getattr(request, "user", None)
    own = [user_topic(user)] if user is not None and user.is_authenticated else []
    followed = list(dict.fromkeys(own + named))
    if not followed:
        return mark_safe("")
    cursor = _cursor(request, followed)
    return format_html(
        '<sse-stream src="{}"{} hidden></sse-stream>',
        _address(named),
        format_html(' last-id="{}"', cursor) if cursor else "",
    )


def _address(topics: Collection[str]) -> str:
    try:
        address = reverse("django_sse:stream")
    except NoReverseMatch as error:
        msg = (
            "the page has no stream to connect to: add "
            'path("events/", include("django_sse.urls")) to the urlpatterns of your urls.py'
        )
        raise ImproperlyConfigured(msg) from error
    return f"{address}?{urlencode([('topic', topic) for topic in topics])}" if topics else address


def _cursor(request: HttpRequest, topics: Collection[str]) -> str | None:
    """Return the cursor as of RENDER_MARGIN before the request began; None where the history is down."""
    ago = time.monotonic() - began(request) + get_settings().RENDER_MARGIN
    try:
        return Cursor.of(get_history().at(topics, ago=ago)).encode()
    except HistoryError:
        logger.warning("The page is rendered without a cursor: the history cannot be reached.", exc_info=True)
        return None
