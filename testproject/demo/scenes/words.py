"""Words: an async iterator, streamed word by word, as the answer of a language model would be.

No topic and no history: `EventStreamResponse` takes any async iterator of events. A line that drops in the
middle begins it again, and its words take the places of those that are there. After the end the browser stays
away.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from django_sse import Event
from django_sse.responses import EventStreamResponse
from testproject.demo.pages import HERE, Scene

SCENE = Scene(
    slug="words",
    title="Words",
    summary="An async iterator, streamed word by word into the page.",
    module=__name__,
    files=("texts/note-g.txt",),
)
TEXT = Path(HERE / "texts" / "note-g.txt").read_text()
SPEEDS = {"slow": 4, "calm": 10, "fast": 40}  # words a second


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the page; with a speed in the address it has an element that follows the words."""
    return SCENE.render(request, {"speeds": SPEEDS, "speed": request.GET.get("speed")})


@require_safe
async def stream(request: HttpRequest) -> EventStreamResponse:
    """Stream the words."""
    rate = SPEEDS.get(request.GET.get("speed", ""), SPEEDS["calm"])
    return EventStreamResponse(words(TEXT, rate=rate), request=request)


async def words(text: str, *, rate: float) -> AsyncIterator[Event]:
    """Give the words of a text one after the other, each with its place."""
    pieces = text.split(" ")
    for place, word in enumerate(pieces):
        data = {"place": place, "word": f"{word} ", "percent": 100 * (place + 1) // len(pieces)}
        yield Event(name="word", text=json.dumps(data))
        # As writers do: a longer pause at the end of a thought.
        await asyncio.sleep((4 if word.endswith((".", ";")) else 1) * random.uniform(0.5, 1.2) / rate)


urlpatterns = [
    path("", show, name="words"),
    path("stream/", stream, name="words-stream"),
]
