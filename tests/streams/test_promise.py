"""The promise, under random faults that the history survives: in order, nothing missing, nothing twice.

Clients stall, lose their connections in the middle of a write, and come back with the id of the last
event that they have whole; they never deduplicate. Doorbells are lost, late and doubled, and the history
takes its time.
"""

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from pytest_django import Settings

from django_sse import followers, hub
from django_sse.conf import get_settings
from django_sse.positions import Cursor, Entry
from django_sse.streams import Stream
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.waiting import eventually, turns

TOPICS = ("a", "b", "c")


@dataclass
class Browser:
    """Someone who comes back after each cut."""

    random: Random
    last_id: str
    topics: tuple[str, ...]
    client: Client | None = None
    texts: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def connect(self) -> None:
        """Come back with the last id."""
        settings = replace(get_settings(), MAX_PENDING=self.random.choice([200, 1000, 10_000]))
        stream = Stream(self.topics, settings=settings, cursor=Cursor.parse(self.last_id))
        self.client = Client(stream, last_event_id=self.last_id).open()

    def cut(self) -> None:
        """Lose the connection, somewhere in the last write."""
        if self.client is not None:
            self.last_id = self.client.cut(self.random)
            self.note()
            self.client = None

    def note(self) -> None:
        """Note what was received."""
        if self.client is not None:
            self.texts += self.client.texts
            self.names += self.client.names
            self.client.messages.clear()

    def stall_or_read(self) -> None:
        """Stall, or read on."""
        if self.client is None:
            self.connect()
        elif self.client.stalled:
            self.client.read()
        else:
            self.client.stall()


class World:
    """One run."""

    def __init__(self, exchange: Exchange, random: Random, start: str) -> None:
        self.exchange = exchange
        self.random = random
        self.sent: dict[str, list[str]] = {topic: [] for topic in TOPICS}
        self.late: list[Entry] = []
        self.browsers = [
            Browser(random, start, tuple(random.sample(TOPICS, random.randint(1, 3)))) for _ in range(5)
        ]

    def publish(self) -> None:
        """Send a few events, whose doorbells ring, are lost, or come late."""
        topic = self.random.choice(TOPICS)
        for _ in range(self.random.choice([1, 1, 2, 20])):
            text = f"{topic}:{len(self.sent[topic])}:" + "x" * self.random.choice([0, 0, 30, 300])
            self.sent[topic].append(text)
            if self.random.random() < 0.7:
                self.exchange.publish(topic, text)
            else:
                self.late += self.exchange.history.add(topic, text)

    async def ring_late(self) -> None:
        """Announce some of what was not, in any order, by the layer or not at all."""
        self.random.shuffle(self.late)
        for _ in range(min(3, len(self.late))):
            if self.random.random() < 0.7:
                await self.exchange.announce(self.late[-1])
            self.late.pop()

    async def step(self) -> None:
        """Let one thing happen."""
        browser = self.random.choice(self.browsers)
        match self.random.randrange(8):
            case 0 | 1 | 2:
                self.publish()
            case 3:
                await self.ring_late()
            case 4:
                browser.stall_or_read()
            case 5 if self.random.random() < 0.5:
                browser.cut()
            case 6 if self.random.random() < 0.2:
                await self.exchange.hub.check()
        await turns(self.random.choice([0, 1, 1, 3, 10]))

    def received(self) -> bool:
        """Tell whether everybody has everything."""
        for browser in self.browsers:
            browser.note()
        return all(
            [text for text in browser.texts if text[0] == topic] == self.sent[topic]
            for browser in self.browsers
            for topic in browser.topics
        )


@pytest.mark.parametrize("seed", range(40))
async def test_everybody_has_everything_once_in_order(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Each client has each of its topics' texts as they were sent, without any reset."""
    monkeypatch.setattr(followers, "GRACE", 0.0005)
    monkeypatch.setattr(followers, "READ_LIMIT", 7)
    monkeypatch.setattr(hub, "READ_LIMIT", 7)
    async with open_exchange(settings, CHECK=3600) as exchange:
        start = Cursor.of(exchange.history.tail(TOPICS)).encode()
        world = World(exchange, Random(seed), start)
        exchange.history.pause = lambda: world.random.choice([0, 0, 0, 1, 5])
        for _ in range(150):
            await world.step()
        for browser in world.browsers:
            if browser.client is None:
                browser.connect()
            elif browser.client.stalled:
                browser.client.read()
        await exchange.hub.check()

        await eventually(world.received)
        await turns()
        assert world.received(), "and nothing twice"
        names = {name for browser in world.browsers for name in browser.names}
        assert names == {"sse-open", "message"}
