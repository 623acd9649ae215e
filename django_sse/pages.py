"""One page as it is rendered, into which some things are printed once."""

from collections.abc import Callable, MutableSet
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from django_sse import markup

_COMMENT = mark_safe(
    "<!-- django_sse: {% sse %} connects nothing here, because there is no request. Add the context "
    "processor django.template.context_processors.request, and render with the request. -->"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A rendering, whatever the template engine: what its tags and functions print.

    ``context_nonce`` is what the context has as ``csp_nonce``. ``printed`` is the whole rendering's, included
    templates and all, and ends with it.
    """

    request: HttpRequest | None
    context_nonce: object
    printed: MutableSet[str]

    def sse(self, *topics: str) -> SafeString:
        """Connect the page to the user's own topic and the named ones."""
        if self.request is None:
            return _COMMENT
        stream = markup.stream(self.request, topics)
        return format_html("{}{}", self.script(), stream) if stream else stream

    def script(self) -> SafeString:
        """Load the script."""
        return self._once("script", lambda: markup.script(self.request, nonce=self._nonce()))

    def status(self) -> SafeString:
        """Tell how the connection is, where that is worth telling."""
        return format_html("{}{}", self._widgets(), markup.status())

    def toasts(self, event: str = "toast", *, max: int = 5) -> SafeString:  # noqa: A002  (as in data-sse-max)
        """Show the texts of events."""
        return format_html("{}{}", self._widgets(), markup.toasts(event, max=max))

    def _widgets(self) -> SafeString:
        return self._once("widgets", lambda: markup.widgets(nonce=self._nonce()))

    def _once(self, name: str, make: Callable[[], SafeString]) -> SafeString:
        if name in self.printed:
            return mark_safe("")
        self.printed.add(name)
        return format_html("{}\n", make())

    def _nonce(self) -> object:
        if self.context_nonce is not None:  # not `or`: a nonce that was not read yet is false
            return self.context_nonce  # Django 6
        return getattr(self.request, "csp_nonce", None)  # django-csp
