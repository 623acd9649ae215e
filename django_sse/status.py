"""What each process of a site serves now, and has met: asked for through the channel layer.

A process answers as soon as it has had a stream; answers may be lost, like any layer message.
"""

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

from channels.layers import BaseChannelLayer

from django_sse import hub as hubs
from django_sse import layers
from django_sse.conf import get_settings
from django_sse.hub import Hub
from django_sse.topics import CONTROL_TOPIC, group_name

logger = logging.getLogger(__name__)

REQUEST: Final = "sse.status"
#: Topics, and users, that a report names; those with most streams.
_MOST: Final = 50
#: Seconds that a layer may take for an answer.
_PATIENCE: Final = 2.0

Report = dict[str, Any]


def prepare() -> None:
    """Answer who asks."""
    hubs.answers[REQUEST] = _answer


def report_of(hub: Hub) -> Report:
    """Return what a hub serves, and has met, as JSON may say it.

    ``process`` (its host, id and event loop), ``time`` (of its clock), the fields of a `Snapshot`, ``topics``
    and ``users`` with their numbers of streams, and ``incidents``, the latest ends and resets.
    """
    topics = Counter({topic: len(follower.streams) for topic, follower in hub.followers.items()})
    return {
        "process": f"{socket.gethostname()}:{os.getpid()}:{id(hub.loop):x}",
        "time": time.time(),
        **asdict(hub.snapshot()),
        "topics": dict(topics.most_common(_MOST)),
        "users": dict(hub.streams.users.most_common(_MOST)),
        "incidents": [asdict(incident) for incident in hub.counters.incidents],
    }


async def gather_reports(*, seconds: float = 1.0) -> list[Report]:
    """Return the reports of this process, and of those that answer within so many seconds."""
    found = {report["process"]: report for report in _own()}
    layer = layers.get_layer()
    if layer is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _ask(layer, found)
    return sorted(found.values(), key=lambda report: str(report["process"]))


def _own() -> list[Report]:
    return [report_of(hub) for hub in Hub.all() if hub.control is not None]


async def _ask(layer: BaseChannelLayer, found: dict[str, Report]) -> None:
    # A channel of its own, which nobody uses again: ending this reading loses nothing of anybody's.
    channel = await layer.new_channel()
    group = group_name(get_settings().GROUP_PREFIX, CONTROL_TOPIC)
    await layer.group_send(group, {"type": REQUEST, "reply": channel})
    while True:
        message = await layer.receive(channel)
        report = message.get("report")
        if isinstance(report, dict) and isinstance(report.get("process"), str):
            found[report["process"]] = report


def _answer(hub: Hub, message: Mapping[str, Any]) -> None:
    reply = message.get("reply")
    if hub.bell is not None and isinstance(reply, str):
        hub.spawn(_reply(hub.bell.layer, reply, report_of(hub)))


async def _reply(layer: BaseChannelLayer, channel: str, report: Report) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await layer.send(channel, {"type": REQUEST, "report": report})
    except Exception:
        # Whatever a layer raises, also where a stranger gave no address: who asked gets no answer.
        logger.warning("A status was not sent", exc_info=True)
