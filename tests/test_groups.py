"""A hub is in the groups of its topics and in no others, in whatever order the layer finishes things."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from channels.layers import InMemoryChannelLayer

from django_sse import groups
from django_sse.groups import Groups
from django_sse.topics import group_name
from tests.waiting import eventually, turns


class SlowLayer(InMemoryChannelLayer):
    """A layer that does one thing after another, each when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[str, asyncio.Event]] = []

    async def group_add(self, group: str, channel: str) -> None:
        """Join when it is told to."""
        await self._turn("add")
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        """Leave when it is told to."""
        await self._turn("discard")
        await super().group_discard(group, channel)

    async def _turn(self, name: str) -> None:
        gate = asyncio.Event()
        self.waiting.append((name, gate))
        await gate.wait()

    async def next(self) -> str:
        """Let the oldest call go on; return what it is."""
        await eventually(lambda: self.waiting)
        name, gate = self.waiting.pop(0)
        gate.set()
        await turns()
        return name


@pytest.fixture
def layer() -> SlowLayer:
    """Return a layer."""
    return SlowLayer()


@pytest.fixture
async def ours(layer: SlowLayer) -> AsyncIterator[Groups]:
    """Return groups that have their channel."""
    ours = Groups(layer, prefix="sse")
    receiving = asyncio.create_task(ours.receive(hear=lambda _: None, joined=lambda _: None))
    await eventually(lambda: ours.channel)
    yield ours
    receiving.cancel()
    await asyncio.gather(receiving, return_exceptions=True)


@pytest.fixture
def tasks() -> Iterator[list[asyncio.Task[None]]]:
    """Return what is under way; all of it has ended at the end."""
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    assert all(task.done() for task in tasks)


def members(layer: SlowLayer) -> list[str]:
    """Return who is in the group of the topic."""
    return list(layer.groups.get(group_name("sse", "news"), ()))


async def test_an_old_leave_does_not_undo_a_new_join(
    ours: Groups, layer: SlowLayer, tasks: list[asyncio.Task[None]]
) -> None:
    """Who leaves while a renewal is under way, and comes again, is in the group at the end."""
    tasks.append(asyncio.create_task(ours.renew(["never followed"])))
    tasks.append(asyncio.create_task(ours.join("news")))
    assert await layer.next() == "add"
    ours.joined["news"] -= groups.RENEW
    tasks.extend(asyncio.create_task(work) for work in (ours.renew(ours.due()), ours.leave("news")))
    await turns()
    tasks.append(asyncio.create_task(ours.join("news")))
    await turns()

    while not all(task.done() for task in tasks):
        await layer.next()
    assert members(layer) == [ours.channel]
    assert list(ours.joined) == ["news"]


async def test_the_last_word_counts(ours: Groups, layer: SlowLayer, tasks: list[asyncio.Task[None]]) -> None:
    """Who joins and leaves again before the layer has answered is not in the group."""
    tasks.append(asyncio.create_task(ours.join("news")))
    await eventually(lambda: layer.waiting)
    assert ours.due() == [], "it is being joined"
    tasks.append(asyncio.create_task(ours.leave("news")))

    while not all(task.done() for task in tasks):
        await layer.next()
    assert members(layer) == []
    assert ours.joined == {}


async def test_nobody_waits_long_for_a_group(
    ours: Groups, layer: SlowLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for a layer that hangs, or for somebody else who does, goes on after the timeout."""
    monkeypatch.setattr(groups, "_TIMEOUT", 0.01)
    await asyncio.gather(ours.leave("news"), ours.join("news"))

    assert caplog.text.count("A group could not be joined or left") == 2
    assert ours.due() == ["news"]
    monkeypatch.setattr(groups, "_TIMEOUT", 10.0)
    renewing = asyncio.create_task(ours.renew(ours.due()))
    layer.waiting.clear()
    assert await layer.next() == "add"
    await renewing
    assert members(layer) == [ours.channel]
