"""The HTML that connects a page.

Plain functions, which any template engine can call; the template tags are skins over them.
"""

import logging
import time
from collections.abc import Collection
from urllib.parse import urlencode, urlsplit

from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from django_sse.assets import POLYFILL, SCRIPT, STYLE, WIDGETS, script_version
from django_sse.conf import get_settings
from django_sse.exceptions import EventError, HistoryError
from django_sse.history import get_history
from django_sse.positions import Cursor
from django_sse.requests import began
from django_sse.sharing import SHARE, share_key
from django_sse.topics import check_topic, user_topic

logger = logging.getLogger(__name__)


def script(request: HttpRequest | None = None, *, nonce: object = None) -> SafeString:
    """Return the element that loads the script, once per page.

    ``nonce`` is the Content Security Policy's, lazy ones too: it is read here, so the policy carries it.
    Where the static files are on another origin than the request, the element also names the same script on
    the site's own, for the worker.
    """
    address = static(SCRIPT)
    return format_html(
        '<script src="{}" defer data-polyfill="{}"{}{}></script>',
        address,
        static(POLYFILL),
        _attribute("data-worker", _worker() if _is_elsewhere(address, request) else None),
        _attribute("nonce", nonce),
    )


def stream(request: HttpRequest, topics: Collection[str] = ()) -> SafeString:
    """Return the element that follows the user's own topic and these; nothing where there is none to follow.

    Its cursor is that of the rendering: an event that the page's view came too early to see is still brought.
    """
    named = list(dict.fromkeys(check_topic(topic) for topic in topics))
    user = getattr(request, "user", None)
    own = user_topic(user) if user is not None and user.is_authenticated else None
    followed = list(dict.fromkeys(named if own is None else [own, *named]))
    if not followed:
        return mark_safe("")
    return format_html(
        '<sse-stream src="{}"{} hidden></sse-stream>',
        _address(named, own),
        _attribute("last-id", _cursor(request, followed)),
    )


def widgets(*, nonce: object = None) -> SafeString:
    """Return the elements that load the style and the script of status and toasts, once per page."""
    return format_html(
        '<link rel="stylesheet" href="{}"{}>\n<script src="{}" defer{}></script>',
        static(STYLE),
        _attribute("nonce", nonce),
        static(WIDGETS),
        _attribute("nonce", nonce),
    )


def status() -> SafeString:
    """Return the element that tells how the connection is: empty, while all is well.

    Its texts are in the language that is active now.
    """
    reload = format_html(' <button type="button" data-sse-reload>{}</button>', _("Reload"))
    states = (
        ("reconnecting", _("The connection was lost. Trying again…"), ""),
        ("closed", _("This page is no longer updated."), reload),
        ("denied", _("This page is no longer updated for you. Are you still signed in?"), reload),
        ("stale", _("This page has missed something, and may be out of date."), reload),
    )
    return format_html(
        '<div class="sse-status" role="status" data-sse-status>{}</div>',
        format_html_join("", '<template data-sse-state="{}"><p>{}{}</p></template>', states),
    )


def toasts(event: str = "toast", *, max: int = 5) -> SafeString:  # noqa: A002  (as in data-sse-max)
    """Return the element that shows the ``text`` of these events, ``max`` of them at most.

    Several names are separated by blanks. Raises EventError where there is none.
    """
    if not event.split():
        msg = f"toasts are shown for events, and {event!r} names none: use such as 'toast'"
        raise EventError(msg)
    return format_html(
        '<div class="sse-toasts" role="log" aria-live="polite" aria-label="{}">'
        '<template data-sse-on="{}" data-sse-max="{}">'
        '<div class="sse-toast" data-sse-attr="data-level:level"><p data-sse-key="text"></p>'
        '<button type="button" data-sse-dismiss=".sse-toast" aria-label="{}"></button></div>'
        "</template></div>",
        _("Notifications"),
        event,
        max,
        _("Dismiss"),
    )


def _attribute(name: str, value: object) -> SafeString:
    return mark_safe("") if value is None else format_html(' {}="{}"', name, str(value))


def _is_elsewhere(address: str, request: HttpRequest | None) -> bool:
    """Tell whether an address is on another origin than the page, as far as one can tell."""
    parts = urlsplit(address)
    if not parts.netloc or request is None:
        return bool(parts.netloc)
    try:
        return (parts.scheme or request.scheme, parts.netloc) != (request.scheme, request.get_host())
    except DisallowedHost:
        return True


def _worker() -> str | None:
    """Return the address of the script on the site's own origin; None where a project does not serve it."""
    try:
        address = reverse("django_sse:worker")
    except NoReverseMatch:
        return None  # it has views of its own, whose streams belong to one page each
    # With its version: browsers share a worker by its address, and never with pages of another version so.
    return f"{address}?v={script_version()}"


def _address(topics: Collection[str], own: str | None) -> str:
    try:
        address = reverse("django_sse:stream")
    except NoReverseMatch as error:
        msg = (
            "the page has no stream to connect to: add "
            'path("events/", include("django_sse.urls")) to the urlpatterns of your urls.py'
        )
        raise ImproperlyConfigured(msg) from error
    return f"{address}?{urlencode([*(('topic', topic) for topic in topics), (SHARE, share_key(own))])}"


def _cursor(request: HttpRequest, topics: Collection[str]) -> str | None:
    """Return the cursor as of RENDER_MARGIN before the request began; None where the history is down."""
    ago = time.monotonic() - began(request) + get_settings().RENDER_MARGIN
    try:
        return Cursor.of(get_history().at(topics, ago=ago)).encode()
    except HistoryError:
        logger.warning("The page is rendered without a cursor: the history cannot be reached.", exc_info=True)
        return None
