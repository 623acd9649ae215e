"""What the server under load can be told to do."""

import asyncio
import threading
import time
from functools import partial

from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from django_sse import asend_event, send_event

_jobs: dict[str, list[asyncio.Task[None] | threading.Thread]] = {}


async def publish(request: HttpRequest) -> JsonResponse:
    """Start publishers, half of them threads: each sends `count` numbered events over `seconds`."""
    topics = request.GET.getlist("topic")
    publishers, count = int(request.GET["publishers"]), int(request.GET["count"])
    seconds = float(request.GET["seconds"])
    jobs: list[asyncio.Task[None] | threading.Thread] = []
    for number in range(publishers):
        if number % 2:
            work = partial(_in_thread, number, topics, count, seconds)
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            jobs.append(thread)
        else:
            jobs.append(asyncio.create_task(_in_loop(number, topics, count, seconds)))
    _jobs["publish"] = jobs
    return JsonResponse({"publishers": publishers})


async def _in_loop(publisher: int, topics: list[str], count: int, seconds: float) -> None:
    start = time.monotonic()
    for n in range(count):
        await asyncio.sleep(max(0.0, start + seconds * n / count - time.monotonic()))
        await asend_event(topics[n % len(topics)], "tick", {"publisher": publisher, "n": n})


def _in_thread(publisher: int, topics: list[str], count: int, seconds: float) -> None:
    start = time.monotonic()
    for n in range(count):
        time.sleep(max(0.0, start + seconds * n / count - time.monotonic()))
        send_event(topics[n % len(topics)], "tick", {"publisher": publisher, "n": n})


async def burst(request: HttpRequest) -> JsonResponse:
    """Send `count` events of `size` characters without a pause."""
    topic, count, size = request.GET["topic"], int(request.GET["count"]), int(request.GET["size"])
    for n in range(count):
        await asend_event(topic, "tick", {"publisher": 0, "n": n, "filler": "x" * size})
    return JsonResponse({"sent": count})


def health(request: HttpRequest) -> JsonResponse:
    """Tell how many threads there are."""
    return JsonResponse({"threads": threading.active_count()})


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("publish", publish),
    path("burst", burst),
    path("health", health),
]
