"""The history in this process's memory: the contract, and its limits."""

import tracemalloc
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_sse.history import BaseHistory, Gone, MemoryHistory, Page, memory
from django_sse.history.memory import _size
from django_sse.positions import Entry, Position
from django_sse.wire import Event
from tests.history.contract import ALL, HistoryContract

NOW = 1_750_000_000.0


class TestMemoryHistory(HistoryContract):
    """It keeps what every history promises."""

    @pytest.fixture
    def history(self) -> BaseHistory:
        """Return an empty history with its default options."""
        return MemoryHistory()

    @pytest.fixture
    def short(self) -> BaseHistory:
        """Return an empty history with the option ``length=3``."""
        return MemoryHistory(length=3)

    async def lose_everything(self, history: BaseHistory) -> None:
        """Empty the store."""
        assert isinstance(history, MemoryHistory)
        history.clear()


@dataclass
class Clock:
    """A clock that stands until it is set."""

    now: float = NOW

    def time(self) -> float:
        """Return seconds."""
        return self.now

    def time_ns(self) -> int:
        """Return nanoseconds."""
        return int(self.now * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that the history reads."""
    clock = Clock()
    monkeypatch.setattr(memory, "time", clock)
    return clock


def append(history: MemoryHistory, topic: str, text: str = "hi", **options: Any) -> Entry:
    """Append what is not stale."""
    entry = history.append(topic, Event(text=text), **options)
    assert entry is not None
    return entry


async def texts_after(history: MemoryHistory, topic: str, position: Position) -> list[str] | None:
    """Return what comes after a position, None where it is gone."""
    page = await history.read(topic, position, limit=ALL)
    return None if isinstance(page, Gone) else [entry.event.text for entry in page.entries]


def kept(history: MemoryHistory, topic: str) -> list[str]:
    """Return the texts that a topic still has."""
    return [entry.event.text for entry in history._logs[topic].entries.values()]


def measured(history: MemoryHistory) -> int:
    """Return the size of all entries, counted anew."""
    return sum(_size(entry) for log in history._logs.values() for entry in log.entries.values())


def test_it_is_not_shared() -> None:
    """Other processes neither read nor write it, and whoever chooses a history can see that."""
    assert MemoryHistory.shared is False


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
@pytest.mark.parametrize("name", ["length", "age", "key_age", "topics", "size"])
def test_a_limit_below_one_is_refused(name: str, limit: Any) -> None:
    """A history that could keep nothing would reset its streams for ever."""
    with pytest.raises(ValueError, match=f"^{name} is {limit}: it must be above 0"):
        MemoryHistory(**{name: limit})


# -- age -----------------------------------------------------------------------------------------------


async def test_old_entries_are_trimmed(clock: Clock) -> None:
    """An append drops what is older than the age, and what is just as old stays."""
    history = MemoryHistory(age=60)
    first = append(history, "orders", "first")
    clock.now += 1
    second = append(history, "orders", "second")

    clock.now = NOW + 61
    append(history, "orders", "third")

    assert await texts_after(history, "orders", first.position) is None
    assert await texts_after(history, "orders", second.position) == ["third"]


async def test_the_newest_entry_outlives_its_age(clock: Clock) -> None:
    """A quiet topic's last entry stays, so that who has seen it resumes without a reset."""
    history = MemoryHistory(age=60)
    last = append(history, "orders", "last")

    clock.now += 1_000_000
    assert await texts_after(history, "orders", last.position) == []
    append(history, "orders", "next")
    assert await texts_after(history, "orders", last.position) == ["next"]
    append(history, "orders", "after")

    assert kept(history, "orders") == ["next", "after"]


def test_a_length_of_one_keeps_the_newest() -> None:
    """The shortest history still has its head."""
    history = MemoryHistory(length=1)
    entries = [append(history, "orders", text) for text in "abc"]

    assert kept(history, "orders") == ["c"]
    assert history.tail(["orders"]) == {"orders": entries[-1].position}


# -- topics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["append", "read", "tail", "at"])
async def test_the_least_recently_used_topic_goes_first(use: str) -> None:
    """Any call for a topic counts as use, and a topic that had to go comes back as another."""
    history = MemoryHistory(topics=2)
    first, second = append(history, "first"), append(history, "second")

    match use:
        case "append":
            append(history, "first")
        case "read":
            await history.read("first", first.position, limit=1)
        case "tail":
            history.tail(["first"])
        case "at":
            history.at(["first"], ago=0)
    append(history, "third")

    assert list(history._logs) == ["first", "third"]
    assert await texts_after(history, "first", first.position) is not None
    assert await texts_after(history, "second", second.position) is None
    assert measured(history) == history._size


async def test_a_topic_that_had_to_go_is_loud() -> None:
    """Who stood in it, even before its first entry, has missed something, and is told."""
    history = MemoryHistory(topics=1)
    genesis = history.tail(["first"])["first"]
    entry = append(history, "first")

    append(history, "second")

    assert history.tail(["first"])["first"].offset == 0
    assert await texts_after(history, "first", genesis) is None
    assert await texts_after(history, "first", entry.position) is None


async def test_asking_for_topics_costs_nothing() -> None:
    """However many are asked for, they take no memory, push nothing out, and keep their genesis."""
    history = MemoryHistory(topics=2)
    entry = append(history, "first")
    topics = [f"asked.{number}" for number in range(100)]

    tails = history.tail(topics)
    then = history.at(topics, ago=3600)
    for topic in topics:
        assert await texts_after(history, topic, tails[topic]) == []

    assert list(history._logs) == ["first"]
    assert then == tails == history.tail(topics)
    assert len(set(tails.values())) == 100
    assert await texts_after(history, "first", entry.position) == []


async def test_a_topic_that_goes_takes_few_others_along() -> None:
    """Of a thousand topics without entries, those that share its number are reset; the others stay."""
    history = MemoryHistory(topics=1)
    topics = [f"asked.{number}" for number in range(1000)]
    tails = history.tail(topics)
    append(history, "first")

    append(history, "second")

    moved = [topic for topic, position in history.tail(topics).items() if position != tails[topic]]
    assert moved == [topic for topic in topics if (crc32(topic.encode()) - crc32(b"first")) % 1024 == 0]
    assert len(moved) < 10


def test_another_process_has_another_genesis() -> None:
    """A cursor from before a restart is not taken for one of now."""
    assert MemoryHistory().tail(["orders"]) != MemoryHistory().tail(["orders"])


def test_a_cleared_history_is_empty() -> None:
    """Nothing is kept, counted or remembered."""
    history = MemoryHistory()
    first = append(history, "orders", idempotency_key="k", key="order.1", version=5)

    history.clear()

    assert (len(history._logs), history._size) == (0, 0)
    assert append(history, "orders", idempotency_key="k", key="order.1", version=1) != first


# -- size ----------------------------------------------------------------------------------------------


def size_of(*entries: Entry) -> int:
    """Return what entries cost together."""
    return sum(map(_size, entries))


def test_the_largest_topic_loses_its_older_half() -> None:
    """Where all together are too large, who takes most gives first, and the others keep everything."""
    free = MemoryHistory()
    large = [append(free, "large", "x" * 1000) for _ in range(8)]
    small = [append(free, "small", "x") for _ in range(3)]
    history = MemoryHistory(size=size_of(*large, *small))

    for number in range(8):
        append(history, "large", str(number) * 1000)
    for number in range(3):
        append(history, "small", str(number))
    assert len(kept(history, "large")) == 8
    append(history, "small", "3")

    assert [text[0] for text in kept(history, "large")] == ["4", "5", "6", "7"]
    assert kept(history, "small") == ["0", "1", "2", "3"]
    assert measured(history) == history._size <= history._max_size


def test_a_topic_of_one_entry_does_not_protect_the_others() -> None:
    """Where the largest topic has nothing but its newest entry, the next largest gives."""
    history = MemoryHistory(size=20_000)
    append(history, "one", "x" * 8_000)

    for number in range(100):
        append(history, "many", str(number) * 100)

    assert len(kept(history, "one")) == 1
    assert kept(history, "many")[-1].startswith("99")
    assert measured(history) == history._size <= 20_000


def test_many_topics_of_one_entry_are_bounded() -> None:
    """Where no topic has an older half to give, the least recently used topics go."""
    history = MemoryHistory(size=20_000)

    for number in range(100):
        append(history, f"topic.{number}", "x" * 1000)

    assert 1 < len(history._logs) < 20
    assert list(history._logs)[-1] == "topic.99"
    assert measured(history) == history._size <= 20_000


async def test_an_event_larger_than_everything_is_still_delivered() -> None:
    """Never the newest: an event that is too large alone stays until the next one."""
    history = MemoryHistory(size=1000)
    genesis = history.tail(["orders"])["orders"]

    entry = append(history, "orders", "x" * 10_000)

    assert await texts_after(history, "orders", genesis) == ["x" * 10_000]
    assert await texts_after(history, "orders", entry.position) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from("abcde"), st.integers(0, 3000)),
            st.tuples(st.just("tail"), st.sampled_from("abcde"), st.just(0)),
            st.tuples(st.just("wait"), st.just(""), st.integers(-5, 8)),
        ),
        max_size=60,
    )
)
async def test_no_limit_breaks_the_chain(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is trimmed: a known position brings exactly what came after it, or is gone, never less."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "time", clock)
        history = MemoryHistory(length=4, age=10, topics=3, size=20_000)
        chains: dict[str, Chain] = {}
        for action, topic, number in steps:
            if action == "wait":
                clock.now += number
            else:
                tail = history.tail([topic])[topic]
                chain = chains.setdefault(topic, Chain(tail))
                if tail != chain.positions[-1]:  # it had to go, and is another
                    await chain.check_gone(history, topic)
                    chains[topic] = chain = Chain(tail)
                if action == "append":
                    chain.entries.append(append(history, topic, "x" * number))
                await chain.check(history, topic)
            assert measured(history) == history._size
            assert history._size <= 20_000 or len(history._logs) == 1
            assert len(history._logs) <= 3
            assert all(len(log.entries) <= 4 for log in history._logs.values())


@dataclass
class Chain:
    """A topic as its publisher remembers it."""

    genesis: Position
    entries: list[Entry] = field(default_factory=list)

    @property
    def positions(self) -> list[Position]:
        """Where a client may stand."""
        return [self.genesis, *(entry.position for entry in self.entries)]

    async def check_gone(self, history: MemoryHistory, topic: str) -> None:
        """Find it gone from everywhere."""
        for position in self.positions:
            assert isinstance(await history.read(topic, position, limit=ALL), Gone)

    async def check(self, history: MemoryHistory, topic: str) -> None:
        """Read from everywhere."""
        answers = [await history.read(topic, position, limit=ALL) for position in self.positions]
        there = [isinstance(answer, Page) for answer in answers]
        assert there == sorted(there)
        assert there[-1]
        for index, answer in enumerate(answers):
            if isinstance(answer, Page):
                assert list(answer.entries) == self.entries[index:]
            else:
                assert answer.tail == self.positions[-1]


# -- time ----------------------------------------------------------------------------------------------


def test_a_moment_lies_behind_the_entries_before_it(clock: Clock) -> None:
    """The position as of a moment is that of the last entry until then, one of just then included."""
    history = MemoryHistory()
    positions = {-1: history.tail(["orders"])["orders"]}
    for second in (0, 10, 20):
        clock.now = NOW + second
        positions[second] = append(history, "orders").position

    clock.now = NOW + 30
    for ago, second in [(31, -1), (30, 0), (21, 0), (20, 10), (15, 10), (10, 20), (1, 20), (0, 20)]:
        assert history.at(["orders"], ago=ago) == {"orders": positions[second]}, ago


async def test_a_moment_before_what_is_kept_is_gone(clock: Clock) -> None:
    """The position is that of a trimmed entry, whose loss is told."""
    history = MemoryHistory(length=2)
    for text in "abc":
        clock.now += 10
        append(history, "orders", text)

    assert await texts_after(history, "orders", history.at(["orders"], ago=15)["orders"]) is None
    assert await texts_after(history, "orders", history.at(["orders"], ago=5)["orders"]) == ["c"]


def test_a_clock_that_is_set_back_disorders_nothing(clock: Clock) -> None:
    """Times stand still until the clock has caught up, so positions in time stay in order."""
    history = MemoryHistory()
    first = append(history, "orders")
    clock.now -= 3600
    second = append(history, "orders")
    clock.now = NOW + 1
    third = append(history, "orders")

    assert [entry.time for entry in (first, second, third)] == [NOW, NOW, NOW + 1]
    assert history.at(["orders"], ago=1)["orders"] == second.position
    assert history.at(["orders"], ago=0)["orders"] == third.position


def test_versions_rise_when_the_clock_is_set_back(clock: Clock) -> None:
    """They follow the clock where it goes on, and count where it does not."""
    history = MemoryHistory()

    drawn = [history.next_version(), history.next_version()]
    clock.now -= 3600
    drawn.append(history.next_version())
    clock.now = NOW + 1
    drawn.append(history.next_version())

    start = int(NOW) * 1_000_000
    assert drawn == [start, start + 1, start + 2, start + 1_000_000]


# -- what is remembered of keys ------------------------------------------------------------------------


def test_idempotency_keys_are_kept_for_their_age(clock: Clock) -> None:
    """A retry within it finds its entry; long after, it is another event."""
    history = MemoryHistory(key_age=60)
    first = append(history, "orders", idempotency_key="k")
    clock.now += 60
    append(history, "orders", idempotency_key="other")
    assert append(history, "orders", idempotency_key="k") == first

    clock.now += 1
    append(history, "orders", idempotency_key="another")

    assert append(history, "orders", idempotency_key="k") != first
    assert list(history._logs["orders"].made) == ["other", "another", "k"]


def test_versions_are_kept_for_their_age_after_the_last_write(clock: Clock) -> None:
    """A key that is written again is remembered anew."""
    history = MemoryHistory(key_age=60)
    append(history, "orders", key="busy", version=5)
    append(history, "orders", key="quiet", version=5)
    clock.now += 60
    append(history, "orders", key="busy", version=6)

    clock.now += 1
    append(history, "orders", key="new", version=1)

    assert history.append("orders", Event(text=""), key="busy", version=5) is None
    assert history.append("orders", Event(text=""), key="quiet", version=1) is not None


def test_as_many_keys_are_kept_as_entries() -> None:
    """Memory is bounded also where every event has its own key; the oldest are forgotten first."""
    history = MemoryHistory(length=3)
    for number in range(10):
        append(history, "orders", idempotency_key=f"k{number}", key=f"order.{number}", version=1)

    log = history._logs["orders"]
    assert list(log.made) == ["k7", "k8", "k9"]
    assert list(log.versions) == ["order.7", "order.8", "order.9"]


def test_the_overhead_is_what_was_measured() -> None:
    """The size that is counted is near what Python really takes."""
    history = MemoryHistory()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            append(history, "orders", f"{number:04}" * 25)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.7 < history._size / (after - before) < 1.5
