"""The tags of ``{% load sse %}``."""

from django import template
from django.template.context import Context
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from django_sse import markup

register = template.Library()

_PRINTED = "django_sse.script"


@register.simple_tag(takes_context=True)
def sse(context: Context, *topics: str) -> SafeString:
    """Connect the page to the user's own topic and the named ones."""
    request = context.get("request") or getattr(context, "request", None)
    if request is None:
        return mark_safe(
            "<!-- django_sse: {% sse %} connects nothing here, because there is no request. Add the context "
            "processor django.template.context_processors.request, and render with the request. -->"
        )
    stream = markup.stream(request, topics)
    # The root of the rendering, which included templates share; it ends with the page, unlike the request.
    page = context.render_context.dicts[0]
    if not stream or _PRINTED in page:
        return stream
    page[_PRINTED] = "once"
    nonce = context.get("csp_nonce")  # Django 6
    if nonce is None:  # not `or`: a nonce that was not read yet is false
        nonce = getattr(request, "csp_nonce", None)  # django-csp
    return format_html("{}\n{}", markup.script(request, nonce=nonce), stream)
