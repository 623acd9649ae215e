"""Break it: the promise, made visible.

A numbered event is sent twice a second, while somebody watches. Whatever the buttons do to its way, every
number comes, once and in order; or, where the history has lost some, the page is told so first.

The one scene that reaches below what the package promises to keep as it is: to break things one must.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.contrib.auth import logout
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.http import require_POST, require_safe

from django_sse import send_event
from django_sse.history import get_history
from django_sse.hub import Hub
from django_sse.wire import Event
from testproject.demo.pages import Scene, answered, page
from testproject.demo.scenes.machine import counters
from testproject.demo.watched import WhileWatched

SCENE = Scene(
    slug="break-it",
    title="Break it",
    summary="Cut the line, stop the layer, fill the history: and look what comes of it.",
    module=__name__,
    files=("watched.py", "sse.py"),
)
RATE = 2
FILLER = 10_100  # a history keeps the last 10,000 events of a topic
DEPLOY = 6  # seconds


class Faults:
    """What is broken in this process."""

    def __init__(self) -> None:
        self.is_silent = False  # the layer is stopped
        self.is_down_until = 0.0  # by the monotonic clock

    @property
    def is_down(self) -> bool:
        """Whether streams are turned away."""
        return time.monotonic() < self.is_down_until


faults = Faults()


@sync_and_async_middleware
def down(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Answer 503 in place of event streams, as a site does while its server is replaced; a middleware."""

    def is_refused(request: HttpRequest) -> bool:
        return faults.is_down and request.path.startswith("/events/")

    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> Any:
            return HttpResponse(status=503) if is_refused(request) else await get_response(request)

        return answer_later

    def answer(request: HttpRequest) -> Any:
        return HttpResponse(status=503) if is_refused(request) else get_response(request)

    return answer


def send(tick: int) -> None:
    """Send the next number, with what this process has counted."""
    data = {"number": tick % 1000, "tick": tick, "silent": faults.is_silent, **counters()}
    if faults.is_silent:
        # The layer is stopped: the event is in the history, and no doorbell rings.
        event = Event(name="tick", text=json.dumps(data))
        get_history().append("ticks", event, idempotency_key=f"tick-{tick}")
    else:
        send_event("ticks", "tick", data, idempotency_key=f"tick-{tick}", on_commit=False)


watched = WhileWatched("ticks", send, rate=RATE, linger=20)


def cut() -> None:
    """Cut the line of every stream of this process that follows the numbers, without a word."""
    for hub in Hub.all():
        hub.loop.call_soon_threadsafe(_abort, hub)


def _abort(hub: Hub) -> None:
    for stream in hub.streams:
        if "ticks" in getattr(stream, "topics", ()):
            stream.abort()


def deploy() -> None:
    """Cut the lines, and turn streams away for some seconds."""
    faults.is_down_until = time.monotonic() + DEPLOY
    cut()


def stop_layer() -> None:
    """Ring no doorbell any more."""
    faults.is_silent = True


def start_layer() -> None:
    """Ring it again."""
    faults.is_silent = False


def fill() -> None:
    """Send more than the history keeps while nobody can hear it: what pages have seen last is gone."""
    faults.is_down_until = time.monotonic() + 600
    cut()
    try:
        history, filler = get_history(), Event(name="filler", text="null")
        for _ in range(FILLER):
            history.append("ticks", filler)
    finally:
        faults.is_down_until = 0.0


FAULTS = {
    "cut": cut,
    "deploy": deploy,
    "stop-layer": stop_layer,
    "start-layer": start_layer,
    "fill": fill,
}


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the buttons, and what this process has counted."""
    return SCENE.render(request, {"counted": counters(), "silent": faults.is_silent, "deploy": DEPLOY})


@require_POST
def do(request: HttpRequest, fault: str) -> HttpResponse:
    """Break something, or mend it."""
    if fault not in FAULTS:
        raise Http404
    FAULTS[fault]()
    return answered(request, "demo:break-it")


@require_POST
def leave(request: HttpRequest) -> HttpResponse:
    """Sign out, in the tab that this opens: the streams of the other tabs end."""
    logout(request)
    return page(request, "demo/signed-out.html", {})


urlpatterns = [
    path("", show, name="break-it"),
    path("sign-out/", leave, name="break-it-leave"),
    path("<slug:fault>/", do, name="break-it-do"),
]
