"""The tags of ``{% load sse %}``."""

from typing import Any

from django import template
from django.template.context import Context
from django.utils.safestring import SafeString

from django_sse.pages import Page

register = template.Library()

_PRINTED = "django_sse.printed"


@register.simple_tag(takes_context=True)
def sse(context: Context, *topics: str) -> SafeString:
    """Connect the page to the user's own topic and the named ones."""
    return _page(context).sse(*topics)


@register.simple_tag(takes_context=True)
def sse_script(context: Context) -> SafeString:
    """Load the script alone, for streams that the page names by itself."""
    return _page(context).script()


@register.simple_tag(takes_context=True)
def sse_status(context: Context) -> SafeString:
    """Tell visitors where the connection is lost, or the page out of date."""
    return _page(context).status()


@register.simple_tag(takes_context=True)
def sse_toasts(context: Context, event: str = "toast", *, max: int = 5) -> SafeString:  # noqa: A002
    """Show the texts of these events, the last few of them, until they are dismissed."""
    return _page(context).toasts(event, max=max)


def _page(context: Context) -> Page:
    # The root of the rendering, which included templates share. It ends with the page, unlike the request.
    root: Any = context.render_context.dicts[0]
    return Page(
        request=context.get("request") or getattr(context, "request", None),
        context_nonce=context.get("csp_nonce"),
        printed=root.setdefault(_PRINTED, set()),
    )
