"""One line in a project's URLs serves its event streams."""

import json

from django.urls import resolve, reverse
from pytest_django import Settings

from tests.exchange import open_exchange
from tests.visits import Visit


async def test_the_stream_is_served_where_it_is_included(settings: Settings) -> None:
    """The name that tags and scripts reverse leads to a stream of the topics that are asked for."""
    address = reverse("django_sse:stream")
    assert address == "/events/"
    assert resolve(address).app_name == "django_sse"

    async with open_exchange(settings) as exchange, Visit(f"{address}?topic=news") as visit:
        assert json.loads((await visit.event("sse-open")).text)["topics"] == ["news"]
        exchange.publish("news", "hello")
        assert (await visit.event()).text == "hello"
