"""Who comes back has the latest progress of each job, and all of everything else."""

from collections.abc import AsyncIterator
from random import Random

import pytest
from pytest_django import Settings

from django_sse import followers, hub, layers
from django_sse.jobs import job_of, job_text
from django_sse.positions import Cursor, Entry
from django_sse.wire import Event
from tests.exchange import Exchange, open_exchange
from tests.streams.clients import Client
from tests.streams.test_promise import TOPICS, World
from tests.streams.test_topics import connect, make_busy, places
from tests.waiting import eventually, turns


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return this process's hub, whose own tail check does not come in the test's time."""
    async with open_exchange(settings, CHECK=3600) as exchange:
        yield exchange


def progress(id: str, done: int, *, label: str = "") -> Event:  # noqa: A002
    """Return a job's event."""
    return Event(name="progress", text=job_text(id=id, label=label, done=done, total=100, state="running"))


def add(exchange: Exchange, topic: str, *events: Event) -> list[Entry]:
    """Append events without ringing."""
    entries = [exchange.history.append(topic, event) for event in events]
    return [entry for entry in entries if entry is not None]


def start_of(exchange: Exchange, *topics: str) -> str:
    """Return the cursor of somebody who has seen nothing."""
    return Cursor.of(exchange.history.tail(topics)).encode()


def latest(events: list[Event]) -> list[str]:
    """Return the texts that somebody must have who missed these events."""
    later: list[str | None] = [job_of(event) for event in events]
    return [
        event.text
        for number, event in enumerate(events)
        if later[number] is None or later[number] not in later[number + 1 :]
    ]


async def caught_up(client: Client) -> None:
    """Wait until a client has everything that there is."""
    await eventually(lambda: all(places(client).values()))
    await turns()


EVENTS = [
    progress("a", 1),
    Event(text="one"),
    progress("a", 2),
    progress("b", 1),
    Event(name="progress", text='{"id":"a","step":"the project\'s own"}'),
    progress("a", 3),
    Event(name="progress", text='{"id":"a","step":"the project\'s own"}'),
    Event(text="two"),
    progress("b", 2),
]


async def test_a_resumed_stream_has_the_latest_progress_of_each_job(exchange: Exchange) -> None:
    """Of a page of missed entries it is given one progress of each job, and everything else, in order."""
    cursor = start_of(exchange, "t")
    add(exchange, "t", *EVENTS)
    client = await connect("t", cursor=cursor)

    await caught_up(client)
    assert client.texts == latest(EVENTS)
    assert len(client.texts) == len(EVENTS) - 3
    assert len(exchange.history.reads) == 1


async def test_every_id_resumes_exactly_behind_its_event(exchange: Exchange) -> None:
    """Whoever is cut behind any of these events misses nothing, and sees nothing twice."""
    cursor = start_of(exchange, "t", "u")
    entries = add(exchange, "t", *EVENTS)
    (other,) = add(exchange, "u", Event(text="other"))
    first = await connect("t", "u", cursor=cursor)
    await caught_up(first)
    received = {message.id: message for message in first.messages if not message.name.startswith("sse-")}

    assert len(received) == len(EVENTS) - 3 + 1
    for last_id in received:
        parsed = Cursor.parse(last_id)
        at, at_other = parsed.get("t"), parsed.get("u")
        assert at is not None
        again = await connect("t", "u", cursor=last_id)
        await caught_up(again)
        missed = [entry.event for entry in entries if entry.offset > at.offset]
        rest = latest(missed) + ([] if at_other == other.position else ["other"])
        assert sorted(again.texts) == sorted(rest)
        assert "sse-reset" not in again.names


async def test_a_live_stream_has_all_of_it(exchange: Exchange) -> None:
    """Whoever is there sees every progress, also where doorbells are lost and a heal finds the entries."""
    client = await connect("t")
    for entry in add(exchange, "t", *EVENTS):
        layers.ring(entry)
    await eventually(lambda: len(client.texts) == len(EVENTS))

    add(exchange, "t", *EVENTS)
    await exchange.hub.check()
    await eventually(lambda: client.texts == [event.text for event in EVENTS] * 2)


async def test_a_slow_client_has_the_latest_progress_of_what_it_missed(exchange: Exchange) -> None:
    """What a client did not read in time is read again from the history, without what is out of date."""
    client = await connect("t", max_pending=400)
    await make_busy(client)
    missed = [progress("a", done, label="x" * 50) for done in range(20)] + [Event(text="end")]
    for entry in add(exchange, "t", *missed):
        layers.ring(entry)
    await turns()
    client.read()

    await eventually(lambda: client.texts[-1:] == ["end"])
    await turns()
    assert client.texts == latest(missed)


async def test_a_page_that_does_not_fit(exchange: Exchange) -> None:
    """Where a page leaves in parts, each id stands behind what was left out, and the rest is read again."""
    cursor = start_of(exchange, "t")
    missed = [
        event for done in range(5) for event in (progress("a", done), Event(text=f"{done}:" + "x" * 150))
    ]
    add(exchange, "t", *missed)
    client = await connect("t", cursor=cursor, max_pending=400)

    await caught_up(client)
    assert client.texts == latest(missed)
    assert len(exchange.history.reads) > 2


class BusyWorld(World):
    """A run in which jobs tell of their progress, between other events."""

    def __init__(self, exchange: Exchange, random: Random, start: str) -> None:
        super().__init__(exchange, random, start)
        self.events: dict[str, list[tuple[str, str]]] = {topic: [] for topic in TOPICS}

    def publish(self) -> None:
        """Send a few events, most of which are jobs' progress."""
        topic = self.random.choice(TOPICS)
        for _ in range(self.random.choice([1, 1, 2, 20])):
            number, job = len(self.events[topic]), self.random.choice(["", "", "1", "2", "own"])
            event = Event(name="progress" if job else "message", text=f"{topic}:{number}")
            if job in {"1", "2"}:
                event = progress(f"{topic}-{job}", number, label="x" * self.random.choice([0, 300]))
            self.events[topic].append((f"{topic}-{job}" if job_of(event) else "", event.text))
            (entry,) = add(self.exchange, topic, event)
            if self.random.random() < 0.7:
                layers.ring(entry)
            else:
                self.late.append(entry)

    def received(self) -> bool:
        """Tell whether everybody has everything that counts."""
        for browser in self.browsers:
            browser.note()
        return all(
            self.is_complete(topic, [text for text in browser.texts if topic_of(text) == topic])
            for browser in self.browsers
            for topic in browser.topics
        )

    def is_complete(self, topic: str, received: list[str]) -> bool:
        """Tell whether texts are those that were sent, in order and once, but for superseded progress."""
        sent = self.events[topic]
        kept = [(job, text) for job, text in sent if text in set(received)]
        if [text for _, text in kept] != received:
            return False
        last = {job: text for job, text in sent if job}
        needed = [text for job, text in sent if not job or last[job] == text]
        return [text for job, text in kept if not job or last[job] == text] == needed

    def left_out(self) -> int:
        """Return how many events did not arrive."""
        return sum(
            len(self.events[topic]) - sum(topic_of(text) == topic for text in browser.texts)
            for browser in self.browsers
            for topic in browser.topics
        )


def topic_of(text: str) -> str:
    """Return the topic of a text of the busy world."""
    return text.removeprefix('{"id":"')[0]


@pytest.mark.parametrize("seed", range(20))
async def test_everybody_has_everything_that_counts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Under random faults nothing but a job's earlier progress is ever left out, and order stays."""
    monkeypatch.setattr(followers, "GRACE", 0.0005)
    monkeypatch.setattr(followers, "READ_LIMIT", 7)
    monkeypatch.setattr(hub, "READ_LIMIT", 7)
    async with open_exchange(settings, CHECK=3600) as exchange:
        world = BusyWorld(exchange, Random(seed), start_of(exchange, *TOPICS))
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
        assert world.left_out() > 0
        names = {name for browser in world.browsers for name in browser.names}
        assert names == {"sse-open", "message", "progress"}
