"""HTML that the server renders, for pages to put where a CSS selector says."""

from collections.abc import Mapping
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.template import Template
from django.template.context import make_context
from django.template.loader import render_to_string

from django_sse.dialects import FRAGMENT
from django_sse.exceptions import EventError
from django_sse.publishing import Recipients, apublish, check_no_loop, make_own_event, publish, topics_of
from django_sse.wire import Event

#: What a page can do with a fragment; its script knows them by these names.
SWAPS: Final = ("append", "prepend", "before", "after", "replace", "html", "remove")


async def asend_fragment(
    to: Recipients,
    template: Any,
    context: Mapping[str, Any] | None = None,
    *,
    target: str,
    swap: str = "append",
    request: HttpRequest | None = None,
    key: str | None = None,
    version: int | None = None,
    idempotency_key: str | None = None,
) -> None:
    """Render in a thread and send now; its arguments and errors are those of `send_fragment`."""
    topics = topics_of(to)
    _check(template, target, swap)
    # Templates may query the database, which Django allows in no event loop.
    event = await sync_to_async(make_fragment)(template, context, target=target, swap=swap, request=request)
    await apublish(topics, event, key=key, version=version, idempotency_key=idempotency_key)


def send_fragment(  # noqa: PLR0913  (those of send_event, and what is said of a fragment)
    to: Recipients,
    template: Any,
    context: Mapping[str, Any] | None = None,
    *,
    target: str,
    swap: str = "append",
    request: HttpRequest | None = None,
    on_commit: bool = True,
    using: str = "default",
    key: str | None = None,
    version: int | None = None,
    idempotency_key: str | None = None,
) -> None:
    """Render a template now, and send it to pages as `send_event` sends events.

    ``template`` is a name, a list of names, or a template; ``target`` a CSS selector; ``swap`` what to do
    with each element that it finds: append or prepend to its children, put before or after it, replace it,
    make it its content (html), or remove it, for which nothing is rendered and ``template`` may be None.

    Everybody in ``to`` gets the same HTML. With a ``request``, what context processors know of its user is
    in it, and so is its CSRF token: give one only for a fragment to that user.

    Raises EventError for a swap or target that is none, or HTML that is larger than MAX_EVENT; whatever
    the rendering raises; and what `send_event` raises.
    """
    check_no_loop("send_fragment()", "await asend_fragment()")
    topics = topics_of(to)
    publish(
        topics,
        make_fragment(template, context, target=target, swap=swap, request=request),
        on_commit=on_commit,
        using=using,
        key=key,
        version=version,
        idempotency_key=idempotency_key,
    )


def _check(template: object, target: object, swap: object) -> None:
    if swap not in SWAPS:
        msg = f"a fragment's swap is one of {', '.join(SWAPS)}, not {swap!r}"
        raise EventError(msg)
    if not isinstance(target, str) or not target.strip():
        msg = f"a fragment's target is a CSS selector such as '#orders', not {target!r}"
        raise EventError(msg)
    if template is None and swap != "remove":
        msg = f"a fragment to {swap} needs a template: only 'remove' goes without one"
        raise EventError(msg)


def make_fragment(
    template: Any,
    context: Mapping[str, Any] | None,
    *,
    target: str,
    swap: str,
    request: HttpRequest | None = None,
) -> Event:
    """Render a template, and return the event that carries it; raise EventError where it cannot be sent."""
    _check(template, target, swap)
    html = "" if swap == "remove" else _render(template, dict(context or {}), request)
    return make_own_event(FRAGMENT, target=target, swap=swap, html=html)


def _render(template: Any, context: dict[str, Any], request: HttpRequest | None) -> str:
    if isinstance(template, str | list | tuple):
        return render_to_string(template, context, request)
    if isinstance(template, Template):
        # Made by hand; those of template loaders take a dict.
        return template.render(make_context(context, request, autoescape=template.engine.autoescape))
    return str(template.render(context, request))
