"""Views by which a test makes pages, opens them, and sends events."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Any

from django.contrib.auth import login
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template import engines

from django_sse import send_event, send_fragment
from django_sse.assets import script_text
from django_sse.signals import stream_opened
from django_sse.streams import BaseStream
from django_sse.views import EventStreamView
from django_sse.wire import Event
from tests.browser.site.accounts import Everybody

NONCE = "bm9uY2U"
POLICY = f"default-src 'none'; connect-src 'self'; script-src 'nonce-{NONCE}'; worker-src 'self'"
#: What `?trusted-types=` adds: sinks take trusted values only, and these policies alone may make them.
TRUSTED_TYPES = "; require-trusted-types-for 'script'; trusted-types "

PAGE = """{% load sse %}<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8"><title>A page</title>
  <script{% if csp_nonce %} nonce="{{ csp_nonce }}"{% endif %}>
    const finish = () => { document.documentElement.id = "finished"; };
    addEventListener("DOMContentLoaded", () => window.sse && sse.on("finish", finish));
  </script>
</head>
<body>
BODY
{% sse topic %}
</body>
</html>"""

_pages: dict[str, str] = {}
_rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
_closings: list[str] = []
#: Of each topic: how many streams began, and how many ended.
_begun: Counter[str] = Counter()
_ended: Counter[str] = Counter()


def count(sender: object, stream: BaseStream, signal: object, **others: object) -> None:
    """Count a stream that begins or ends under each of its topics."""
    (_begun if signal is stream_opened else _ended).update(stream.topics)


def page(request: HttpRequest, topic: str) -> HttpResponse:
    """Keep the body of a topic's page, a Django template, which stands before the tag; or show the page."""
    if request.method == "POST":
        _pages[topic] = PAGE.replace("BODY", request.body.decode())
        return HttpResponse(status=204)
    if topic not in _pages:
        raise Http404(topic)
    rows = list(_rows[topic])  # the view's query; what comes later is the stream's to bring

    def add_late_row() -> str:
        _add(topic, {"pk": len(rows) + 1, "text": "late"})
        return ""

    context: dict[str, Any] = {"topic": topic, "rows": rows, "add_late_row": add_late_row}
    if "csp" in request.GET:
        context["csp_nonce"] = NONCE
    response = HttpResponse(engines["django"].from_string(_pages[topic]).render(context, request))
    if "csp" in request.GET:
        allowed = request.GET.get("trusted-types")
        response["Content-Security-Policy"] = POLICY + (TRUSTED_TYPES + allowed if allowed else "")
    return response


def send(request: HttpRequest) -> HttpResponse:
    """Send the events of the body, each the arguments of `send_event`; a number as `to` is a user."""
    for arguments in json.loads(request.body):
        to = arguments.pop("to")
        send_event(User(pk=to) if isinstance(to, int) else to, **arguments, on_commit=False)
    return HttpResponse(status=204)


def send_html(request: HttpRequest) -> HttpResponse:
    """Send a fragment: the arguments of `send_fragment`, of which `template` is the text of one."""
    arguments = json.loads(request.body)
    to, text = arguments.pop("to"), arguments.pop("template")
    template = None if text is None else engines["django"].from_string(text)
    send_fragment(User(pk=to) if isinstance(to, int) else to, template, **arguments, on_commit=False)
    return HttpResponse(status=204)


def add(request: HttpRequest, topic: str) -> HttpResponse:
    """Add a row to the topic's list, and tell its followers."""
    _add(topic, json.loads(request.body))
    return HttpResponse(status=204)


def sign_in(request: HttpRequest, pk: int) -> HttpResponse:
    """Sign a user in."""
    login(request, User(pk=pk), backend=f"{Everybody.__module__}.{Everybody.__qualname__}")
    return HttpResponse(status=204)


def closing(request: HttpRequest, topic: str) -> HttpResponse:
    """Be a stream that ends at once, and asks not to come back."""
    _closings.append(topic)
    ends = 'retry: 10\nevent: sse-close\ndata: {"reason": "enough", "reconnect": false}\n\n'
    return HttpResponse(ends, content_type="text/event-stream")


def closings(request: HttpRequest, topic: str) -> HttpResponse:
    """Say how often that stream was opened."""
    return HttpResponse(str(_closings.count(topic)))


def policed_worker(request: HttpRequest) -> HttpResponse:
    """Be the script of the worker, under a policy that lets it connect to nothing."""
    headers = {"Content-Security-Policy": "default-src 'none'"}
    return HttpResponse(script_text(), content_type="text/javascript", headers=headers)


class BoardStream(EventStreamView):
    """A stream that begins with how things stand."""

    async def on_connect(self, request: HttpRequest, topics: Collection[str]) -> list[Event]:
        """Say it."""
        return [Event(name="standing", text="now")]


def streams(request: HttpRequest, topic: str) -> JsonResponse:
    """Say how many streams of a topic have begun, and how many of them are open."""
    return JsonResponse({"begun": _begun[topic], "open": _begun[topic] - _ended[topic]})


def nothing(request: HttpRequest) -> HttpResponse:
    """Be the icon that a browser asks for."""
    return HttpResponse(status=204)


def _add(topic: str, row: dict[str, Any]) -> None:
    _rows[topic].append(row)
    send_event(topic, "row", row, on_commit=False)
