"""What the processes of a site serve, and why streams ended, can be asked for from anywhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from io import StringIO
from time import monotonic
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from pytest_django import Settings

from django_sse import status
from django_sse.conf import get_settings
from django_sse.hub import Hub
from django_sse.status import gather_reports
from django_sse.streams import Stream
from django_sse.topics import CONTROL_TOPIC, group_name
from django_sse.visitors import Visitor
from tests.exchange import Exchange, Line, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub."""
    async with open_exchange(settings, CHECK=3600, HEARTBEAT=3600) as exchange:
        yield exchange


async def connect(user: str | None, *topics: str) -> Client:
    """Return a client whose stream has begun."""
    visitor = None if user is None else Visitor(user=user, began=monotonic())
    client = Client(Stream(topics, settings=get_settings(), visitor=visitor)).open()
    await eventually(lambda: "sse-open" in client.names)
    return client


async def test_a_report(exchange: Exchange) -> None:
    """It names the topics and users with their streams, what was counted, and the latest incidents."""
    client = await connect("user.1", "orders", "news")
    await connect(None, "news")
    exchange.publish("news", "1", "2")
    await eventually(lambda: client.texts == ["1", "2"])
    client.stream.end("age")

    (report,) = await gather_reports(seconds=0.1)
    assert report["topics"] == {"news": 1, "orders": 0}
    assert report["users"] == {}
    assert (report["streams"], report["opened"], report["entries"]) == (1, 2, 2)
    assert report["ends"] == {"age": 1}
    (incident,) = report["incidents"]
    assert incident.pop("time") > 0
    assert incident == {"kind": "end", "reason": "age", "user": "user.1", "topics": ("orders", "news")}
    json.dumps(report)


async def test_resets_and_refusals_are_incidents(settings: Settings) -> None:
    """Why a stream was reset, and why it was not opened, is told of each of them."""
    async with open_exchange(settings, CHECK=3600, MAX_STREAMS=1) as exchange:
        client = await connect("user.1", "news")
        exchange.history.add("news", "1")
        exchange.history.forget("news")
        await exchange.hub.check()
        await eventually(lambda: "sse-reset" in client.names)
        malformed = Stream(["a"], settings=get_settings(), malformed=True)
        Client(malformed).open()
        (report,) = await gather_reports(seconds=0.1)
        told = [(one["kind"], one["reason"], one["topics"]) for one in report["incidents"]]
        assert told == [("reset", "history", ("news",)), ("end", "limit", ("a",))]
        assert report["resets"] == {"history": 1}
        assert report["refusals"] == 1


async def test_incidents_are_bounded(exchange: Exchange) -> None:
    """The oldest give way; what was counted stays."""
    for _ in range(150):
        exchange.hub.counters.note_end("age", user=None, topics=())
    (report,) = [status.report_of(exchange.hub)]
    assert len(report["incidents"]) == 100
    assert report["ends"] == {"age": 150}


async def other_process(layer: Line, answer: Any) -> None:
    """Join the control group as another process, and answer the first who asks."""
    channel = await layer.new_channel()
    await layer.group_add(group_name("sse", CONTROL_TOPIC), channel)
    request = await layer.receive(channel)
    assert request["type"] == status.REQUEST
    await layer.send(request["reply"], {"type": status.REQUEST, "report": answer})


async def test_every_process_answers(exchange: Exchange) -> None:
    """Those that have had a stream; what is no report is left out."""
    await connect(None, "news")
    others = [
        asyncio.create_task(other_process(exchange.layer, answer))
        for answer in ({"process": "other:1"}, {"process": 5}, "nonsense")
    ]
    await asyncio.sleep(0)
    reports = await gather_reports(seconds=0.2)
    await asyncio.gather(*others)
    own = status.report_of(exchange.hub)["process"]
    assert [report["process"] for report in reports] == sorted([own, "other:1"])


@pytest.mark.parametrize("reply", [None, 5, "no channel", "x" * 200])
async def test_who_gives_no_address_gets_no_answer(exchange: Exchange, reply: Any) -> None:
    """A stranger in the layer harms nobody: the channel is read on."""
    client = await connect(None, "news")
    await exchange.layer.group_send(
        group_name("sse", CONTROL_TOPIC), {"type": status.REQUEST, "reply": reply}
    )
    (entry,) = exchange.history.add("news", "1")
    await exchange.announce(entry)
    await eventually(lambda: client.texts == ["1"])


async def test_who_has_no_stream_has_nothing_to_tell(exchange: Exchange) -> None:
    """A process that only asks is not among the answers."""
    assert await gather_reports(seconds=0.01) == []


def called(*arguments: str) -> str:
    """Return what the command writes."""
    out = StringIO()
    call_command("sse_status", "--seconds=0.2", *arguments, stdout=out)
    return out.getvalue()


async def test_the_command(exchange: Exchange) -> None:
    """It writes a paragraph for each process, or the reports as they are."""
    client = await connect("user.1", "orders")
    client.stream.end("age")
    await connect("user.2", "orders")
    text = await sync_to_async(called, thread_sensitive=False)()
    process = status.report_of(exchange.hub)["process"]
    assert f"{process}: 1 streams on 1 topics" in text
    assert "ended: age 1" in text
    assert "topics: orders 1" in text
    assert "users: user.2 1" in text
    assert "UTC end (age): user.1, orders" in text
    (report,) = json.loads(await sync_to_async(called, thread_sensitive=False)("--json"))
    assert report["process"] == process


async def test_the_command_where_nobody_answers(exchange: Exchange) -> None:
    """It says what that may mean."""
    assert "No process answered" in await sync_to_async(called, thread_sensitive=False)()


def test_the_command_without_a_layer(settings: Settings) -> None:
    """Nobody can be asked then; it says where to look."""
    settings.CHANNEL_LAYERS = {}
    with pytest.raises(CommandError, match="CHANNEL_LAYERS"):
        called()


async def test_a_process_without_a_layer_reports_itself(settings: Settings) -> None:
    """In the process itself nobody need be asked."""
    settings.CHANNEL_LAYERS = {}
    settings.DJANGO_SSE = {}
    await connect(None, "news")
    (report,) = await gather_reports()
    assert report["topics"] == {"news": 1}
    await Hub.current().close()
