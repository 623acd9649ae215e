"""The functions for Jinja templates: ``{{ sse("orders") }}``.

An extension: ``"OPTIONS": {"extensions": ["django_sse.jinja.SSE"]}`` of Django's Jinja2 backend.
"""

from collections.abc import MutableSet

from django.http import HttpRequest
from django.utils.safestring import SafeString
from jinja2 import Environment, pass_context
from jinja2.ext import Extension
from jinja2.runtime import Context

from django_sse.pages import Page

_PRINTED = "_django_sse_printed"


class SSE(Extension):
    """Add the functions to an environment."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        for function in (sse, sse_script, sse_status, sse_toasts):
            environment.globals[function.__name__] = function


@pass_context
def sse(context: Context, *topics: str) -> SafeString:
    """Connect the page to the user's own topic and the named ones."""
    return _page(context).sse(*topics)


@pass_context
def sse_script(context: Context) -> SafeString:
    """Load the script alone, for streams that the page names by itself."""
    return _page(context).script()


@pass_context
def sse_status(context: Context) -> SafeString:
    """Tell visitors where the connection is lost, or the page out of date."""
    return _page(context).status()


@pass_context
def sse_toasts(context: Context, event: str = "toast", *, max: int = 5) -> SafeString:  # noqa: A002
    """Show the texts of these events, the last few of them, until they are dismissed."""
    return _page(context).toasts(event, max=max)


def _page(context: Context) -> Page:
    request = context.get("request")
    return Page(
        request=request,
        context_nonce=context.get("csp_nonce"),
        printed=set() if request is None else _printed(context, request),
    )


def _printed(context: Context, request: HttpRequest) -> MutableSet[str]:
    """Return what was printed in this rendering of the request's, of which there may be several."""
    pages: dict[int, tuple[object, MutableSet[str]]] = request.__dict__.setdefault(_PRINTED, {})
    # Jinja tells nothing by which included templates could know their rendering; Django gives each a token.
    token = context.get("csrf_token")
    return pages.setdefault(id(token), (token, set()))[1]  # kept, so that no other has its id
