"""Break it: the promise, made visible.

A numbered event is sent twice a second, while somebody watches. Whatever the buttons do to its way, every
number comes, once and in order; or, where the history has lost some, the page is told so first.

No package promises that it can be broken: this scene alone reaches into the history, and to its sockets.
"""

import json
import os
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.contrib.auth import logout
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.http import require_POST, require_safe

from django_sse import send_event
from django_sse.history import get_history
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


def cut(request: HttpRequest) -> None:
    """Shut down every connection that this server has taken, but for the one that asks for it."""
    port, own = int(request.META["SERVER_PORT"]), int(request.META.get("REMOTE_PORT", 0))
    for number in range(3, 4096):
        with suppress(OSError):  # it is none, or the one that listens
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as connection:
                    if connection.family == socket.AF_UNIX or connection.getsockname()[1] != port:
                        continue
                    if connection.getpeername()[1] != own:
                        connection.shutdown(socket.SHUT_RDWR)


def deploy(request: HttpRequest) -> None:
    """Cut the lines, and turn streams away for some seconds."""
    faults.is_down_until = time.monotonic() + DEPLOY
    cut(request)


def stop_layer(request: HttpRequest) -> None:
    """Ring no doorbell any more."""
    faults.is_silent = True


def start_layer(request: HttpRequest) -> None:
    """Ring it again."""
    faults.is_silent = False


def fill(request: HttpRequest) -> None:
    """Send more than the history keeps while nobody can hear it: what pages have seen last is gone."""
    faults.is_down_until = time.monotonic() + 600
    cut(request)
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
    FAULTS[fault](request)
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
