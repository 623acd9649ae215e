"""Prometheus sees what the hubs of a process count."""

from collections.abc import AsyncIterator
from dataclasses import fields

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import REGISTRY
from pytest_django import Settings

from django_sse.conf import get_settings
from django_sse.counters import Snapshot
from django_sse.metrics import HubCollector
from django_sse.streams import Stream
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub."""
    async with open_exchange(settings, CHECK=3600, HEARTBEAT=3600) as exchange:
        yield exchange


def value(name: str, **labels: str) -> float | None:
    """Return a metric of the default registry, in which the app has put it at its start."""
    return REGISTRY.get_sample_value(name, labels)


async def test_they_follow_the_hub(exchange: Exchange) -> None:
    """Gauges go up and down, counters up, and reasons are labels."""
    client = Client(Stream(["news"], settings=get_settings())).open()
    await eventually(lambda: "sse-open" in client.names)
    assert (
        value("django_sse_streams") == value("django_sse_followers") == value("django_sse_opened_total") == 1
    )
    assert value("django_sse_staleness_seconds") is None
    await exchange.hub.check()
    staleness = value("django_sse_staleness_seconds")
    assert staleness is not None
    assert 0 <= staleness < 60
    client.stream.end("age")
    assert value("django_sse_streams") == 0
    assert value("django_sse_ends_total", reason="age") == 1


def test_every_count_is_there() -> None:
    """No field of a snapshot is forgotten, and the text is well-formed."""
    registry = CollectorRegistry()
    registry.register(HubCollector())
    text = generate_latest(registry).decode()
    for field in fields(Snapshot):
        assert f"# HELP django_sse_{field.name}" in text
