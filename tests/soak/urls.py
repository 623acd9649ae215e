"""What the server under load can be told to do."""

import asyncio
import os
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import uuid4

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import async_only_middleware

from django_sse import arevoke, asend_event, groups, hub, send_event
from django_sse.exceptions import PublishError
from django_sse.hub import Hub

#: Seconds before an event is sent again.
PAUSE: Final = 0.05

if "SOAK_RENEW" in os.environ:
    vars(groups)["RENEW"] = float(os.environ["SOAK_RENEW"])
if "SOAK_LINGER" in os.environ:
    vars(hub)["LINGER"] = float(os.environ["SOAK_LINGER"])  # a test need not wait so long

_jobs: dict[str, list[asyncio.Task[None] | threading.Thread]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Sends `count` numbered events over `seconds`, each until it is known to be sent, and then no more."""

    number: int
    topics: list[str]
    count: int
    seconds: float
    run: str

    def event(self, n: int) -> dict[str, Any]:
        """Return the arguments that send the next event, the same ones whenever they are used again."""
        data = {"publisher": self.number, "n": n, "at": time.time()}
        return {
            "to": self.topics[n % len(self.topics)],
            "event": "tick",
            "data": data,
            "idempotency_key": f"{self.run}.{self.number}.{n}",
        }

    async def in_loop(self) -> None:
        """Send from the event loop."""
        start = time.monotonic()
        for n in range(self.count):
            await asyncio.sleep(max(0.0, start + self.seconds * n / self.count - time.monotonic()))
            event, sent = self.event(n), False
            while not sent:
                try:
                    await asend_event(**event)
                    sent = True
                except PublishError:
                    await asyncio.sleep(PAUSE)

    def in_thread(self) -> None:
        """Send from a thread."""
        start = time.monotonic()
        for n in range(self.count):
            time.sleep(max(0.0, start + self.seconds * n / self.count - time.monotonic()))
            event, sent = self.event(n), False
            while not sent:
                try:
                    send_event(**event, on_commit=False)
                    sent = True
                except PublishError:
                    time.sleep(PAUSE)


async def publish(request: HttpRequest) -> JsonResponse:
    """Start publishers, half of them threads: each sends `count` numbered events over `seconds`."""
    first, publishers = int(request.GET.get("first", "0")), int(request.GET["publishers"])
    run = uuid4().hex
    jobs: list[asyncio.Task[None] | threading.Thread] = []
    for number in range(first, first + publishers):
        publisher = Publisher(
            number=number,
            topics=request.GET.getlist("topic"),
            count=int(request.GET["count"]),
            seconds=float(request.GET["seconds"]),
            run=run,
        )
        if number % 2:
            thread = threading.Thread(target=publisher.in_thread, daemon=True)
            thread.start()
            jobs.append(thread)
        else:
            jobs.append(asyncio.create_task(publisher.in_loop()))
    _jobs["publish"] = jobs
    return JsonResponse({"publishers": publishers})


async def burst(request: HttpRequest) -> JsonResponse:
    """Send `count` events of `size` characters without a pause."""
    topic, count, size = request.GET["topic"], int(request.GET["count"]), int(request.GET["size"])
    filler = request.GET.get("filler", "x") * size
    for n in range(count):
        await asend_event(topic, "tick", {"publisher": 0, "n": n, "filler": filler})
    return JsonResponse({"sent": count})


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user of a site without accounts."""

    pk: str
    is_authenticated: bool = True


@async_only_middleware
def believe(get_response: Any) -> Any:
    """Take each visitor for the user that the query names."""

    async def middleware(request: HttpRequest) -> HttpResponse:
        if "as" in request.GET:
            person = Person(pk=request.GET["as"])

            async def auser() -> Person:
                return person

            request.auser = auser  # type: ignore[assignment]
        response: HttpResponse = await get_response(request)
        return response

    return middleware


async def end_access(request: HttpRequest) -> JsonResponse:
    """Revoke a user's access."""
    await arevoke(Person(pk=request.GET["user"]))
    return JsonResponse({})


async def health(request: HttpRequest) -> JsonResponse:
    """Tell what the process holds, and what the hub has counted."""
    held = {
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208  (it is no disk)
    }
    return JsonResponse({**held, **asdict(Hub.current().snapshot())})


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("publish", publish),
    path("burst", burst),
    path("health", health),
    path("revoke", end_access),
]
