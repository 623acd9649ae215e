"""Sweep, then print as JSON the rows and the events of each topic, both in their order."""

import asyncio
import json
from io import StringIO
from typing import Any

from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import BaseCommand

from django_sse.history import Page, get_history
from django_sse.history.database.entries import topic_key
from django_sse.models import Entry, Outbox
from django_sse.positions import Position

TOPICS = ("orders", "room.5")


class Command(BaseCommand):
    """Report what is there."""

    def handle(self, **_: Any) -> None:
        """Treat what was left as if some time had passed."""
        Outbox.objects.update(time=1)
        call_command("sse_trim", stdout=StringIO())
        rows = list(Group.objects.order_by("pk").values_list("name", flat=True))
        firsts = {topic: Entry.objects.get(topic=topic_key(topic), offset=1).previous for topic in TOPICS}
        events = {topic: asyncio.run(read(topic, first)) for topic, first in firsts.items()}
        print(json.dumps({"rows": rows} | events))


async def read(topic: str, first: int) -> list[str]:
    """Return the data of a topic's events."""
    position, found = Position(offset=0, tag=first), list[str]()
    while True:
        page = await get_history().read(topic, position, limit=1000)
        assert isinstance(page, Page)
        found += [json.loads(entry.event.text) for entry in page.entries]
        if not page.more:
            return found
        position = page.entries[-1].position
