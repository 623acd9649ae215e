"""A follower has every entry of its topic, in order, whatever it is told and in whatever order."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from django_sse import followers
from django_sse.counters import Counters
from django_sse.exceptions import HistoryError
from django_sse.followers import Follower
from django_sse.positions import Batch, Entry, Position
from django_sse.wire import Event
from tests.exchange import ShakyHistory
from tests.waiting import eventually, turns


class Watcher:
    """Notes what a follower offers."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.suspected = 0
        self.heals = 0

    @property
    def texts(self) -> list[str]:
        """What it was offered."""
        return [entry.event.text for entry in self.entries]

    def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
        """Note entries."""
        assert topic == batch.topic == "news"
        self.entries += batch.entries

    def suspect(self, topic: str) -> None:
        """Note that what was offered may have been rolled back."""
        assert topic == "news"
        self.suspected += 1

    def healed(self) -> None:
        """Note the end of a healing."""
        self.heals += 1


class Tasks:
    """Stands for a hub that owns tasks."""

    def __init__(self) -> None:
        self.all: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task."""
        self.all.append(asyncio.get_running_loop().create_task(work))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a fiftieth of the usual time before a healing."""
    monkeypatch.setattr(followers, "GRACE", 0.001)


@pytest.fixture
def history() -> ShakyHistory:
    """Return a history."""
    return ShakyHistory()


@pytest.fixture
def watcher() -> Watcher:
    """Return what follows."""
    return Watcher()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """Return the owner of the follower's tasks; none may have failed."""
    tasks = Tasks()
    yield tasks
    for task in tasks.all:
        task.cancel()
    results = await asyncio.gather(*tasks.all, return_exceptions=True)
    assert {result for result in results if not isinstance(result, asyncio.CancelledError)} <= {None}


class AtOnce:
    """Takes what a follower hears to its streams at once, one by one."""

    def gather(self, follower: Follower) -> None:
        """Offer what was heard."""
        follower.flush()

    def settle(self) -> None:
        """Do nothing: all was offered."""


class Later(AtOnce):
    """Takes what a follower hears when the test says so."""

    def gather(self, follower: Follower) -> None:
        """Do nothing."""


@pytest.fixture
def new(history: ShakyHistory, watcher: Watcher, tasks: Tasks) -> Follower:
    """Return a follower that was not started yet."""
    follower = Follower("news", history=history, spawn=tasks.spawn, fan_out=AtOnce(), counters=Counters())
    follower.streams[watcher] = None
    return follower


@pytest.fixture
async def follower(new: Follower) -> Follower:
    """Return a follower that stands at the tail of an empty topic."""
    await new.start()
    return new


def forged(offset: int, previous: int, tag: int = 77) -> Entry:
    """Return an entry that does not stand in the history."""
    return Entry(
        topic="news", offset=offset, tag=tag, previous=previous, time=0.0, event=Event(text="forged")
    )


# -- the start ---------------------------------------------------------------------------------------


async def test_starts_at_the_tail(new: Follower, history: ShakyHistory, watcher: Watcher) -> None:
    """A follower begins where its topic ends: what was before is no business of live streams."""
    *_, last = history.add("news", "1", "2")
    assert not new.ready.is_set()

    await new.start()

    assert new.ready.is_set()
    assert new.position == last.position
    assert watcher.entries == []


async def test_keeps_what_is_announced_during_the_start(
    new: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """Entries that come between the asking for the tail and its answer are not lost, nor doubled."""
    before = history.add("news", "1")
    history.gate.clear()
    start = asyncio.create_task(new.start())
    await turns()
    after = history.add("news", "2", "3")
    for entry in (*after, *before, *after):
        new.hear(entry)
    history.gate.set()
    await start

    assert watcher.texts == ["2", "3"]
    assert new.position == after[-1].position
    assert history.reads == []


async def test_reads_what_a_crowded_start_could_not_keep(
    new: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """More entries than are kept come during the start: the rest is read from the history."""
    history.gate.clear()
    start = asyncio.create_task(new.start())
    await turns()
    texts = [str(number) for number in range(100)]
    for entry in history.add("news", *texts):
        new.hear(entry)
    history.gate.set()
    await start

    await eventually(lambda: watcher.texts == texts)


@pytest.mark.parametrize("how", ["hear_position", "heal"])
async def test_heals_behind_the_start_where_it_was_asked_during_it(
    new: Follower, history: ShakyHistory, watcher: Watcher, how: str
) -> None:
    """A position is announced, or the group joined, while the tail is on its way: the history is read."""
    history.gate.clear()
    start = asyncio.create_task(new.start())
    await turns()
    (entry,) = history.add("news", "large")
    if how == "heal":
        new.heal()
    else:
        new.hear_position(entry.position)
    history.gate.set()
    await start

    await eventually(lambda: watcher.texts == ["large"])


@pytest.mark.parametrize("fault", [HistoryError("down"), RuntimeError("a bug")])
async def test_starts_when_the_history_is_back(
    new: Follower, history: ShakyHistory, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the history raises at the start, a follower tries again: it would be deaf for good."""
    history.fault = fault
    start = asyncio.create_task(new.start())
    await eventually(lambda: len(history.tails) > 2)
    assert not new.ready.is_set()

    history.fault = None
    await start

    assert new.ready.is_set()
    assert "The history does not answer" in caplog.text


# -- link by link ------------------------------------------------------------------------------------


async def test_follows_link_by_link(follower: Follower, history: ShakyHistory, watcher: Watcher) -> None:
    """Each announced entry that is the very next one is offered at once, without the history."""
    for entry in history.add("news", "1", "2", "3"):
        follower.hear(entry)
        assert watcher.entries[-1] is entry
        assert follower.position == entry.position

    assert watcher.texts == ["1", "2", "3"]
    assert history.reads == []


async def test_ignores_what_it_has(
    follower: Follower, history: ShakyHistory, watcher: Watcher, tasks: Tasks
) -> None:
    """An entry or a position that comes again changes nothing, and asks nobody."""
    entries = history.add("news", "1", "2", "3")
    for entry in (*entries, *entries, entries[0]):
        follower.hear(entry)
        follower.hear_position(entry.position)

    assert watcher.texts == ["1", "2", "3"]
    assert tasks.all == [], "no healing"


async def test_keeps_early_entries_and_drains_them(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """Entries that overtake others wait for them, and are then offered in order, at once."""
    one, two, three, four = history.add("news", "1", "2", "3", "4")
    follower.hear(three)
    follower.hear(two)
    assert watcher.entries == []

    follower.hear(one)
    assert watcher.texts == ["1", "2", "3"]

    follower.hear(four)
    assert watcher.texts == ["1", "2", "3", "4"]


async def test_offers_to_all_in_order_of_arrival(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """Every stream of the topic is offered each entry, also where one leaves in the middle."""

    class Leaver(Watcher):
        def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
            super().offer(topic, batch, at_once=at_once)
            del follower.streams[self]

    leaver, other = Leaver(), Watcher()
    follower.streams |= {leaver: None, other: None}
    for entry in history.add("news", "1", "2"):
        follower.hear(entry)

    assert leaver.texts == ["1"]
    assert watcher.texts == other.texts == ["1", "2"]


async def test_one_streams_fault_keeps_nobody_from_an_entry(
    follower: Follower, history: ShakyHistory, watcher: Watcher, caplog: pytest.LogCaptureFixture
) -> None:
    """What a stream raises is logged; the other streams, the follower and the publisher go on."""

    class Faulty(Watcher):
        def offer(self, topic: str, batch: Batch, *, at_once: bool = False) -> None:
            raise RuntimeError

    last = Watcher()
    follower.streams = {Faulty(): None, watcher: None, last: None}
    for entry in history.add("news", "1", "2"):
        follower.hear(entry)

    assert watcher.texts == last.texts == ["1", "2"]
    assert "A stream failed to take an entry" in caplog.text


# -- healing -----------------------------------------------------------------------------------------


async def test_heals_on_a_gap(follower: Follower, history: ShakyHistory, watcher: Watcher) -> None:
    """Where an announcement was lost, the entries between are read, and none comes twice."""
    entries = history.add("news", "1", "2", "3")
    follower.hear(entries[2])

    await eventually(lambda: watcher.texts == ["1", "2", "3"])
    follower.hear(entries[1])
    assert follower.position == entries[2].position
    assert watcher.texts == ["1", "2", "3"]
    await eventually(lambda: watcher.heals == 1)


async def test_a_gap_that_is_filled_at_once_costs_no_read(
    follower: Follower, history: ShakyHistory, watcher: Watcher, tasks: Tasks
) -> None:
    """Announcements that overtake each other are put in order, and the history is not asked."""
    one, two, three = history.add("news", "1", "2", "3")
    for entry in (three, two, one):
        follower.hear(entry)

    assert watcher.texts == ["1", "2", "3"]
    await eventually(lambda: all(task.done() for task in tasks.all))
    assert len(tasks.all) == 1
    assert history.reads == []


@pytest.mark.parametrize("other", ["a check", "a fork", "an older past", "a forged future"])
async def test_a_gap_that_is_filled_is_not_the_only_cause(
    follower: Follower, history: ShakyHistory, watcher: Watcher, other: str
) -> None:
    """Where anything else was a cause as well, the history is read."""
    one, two, three = history.add("news", "1", "2", "3")
    follower.hear(three)
    if other == "a check":
        follower.check(Position(offset=9, tag=9))
    elif other == "a fork":
        follower.hear(forged(1, previous=9))
    elif other == "an older past":
        follower.hear(forged(0, previous=9))
    else:
        follower.hear(forged(2, previous=9))
    follower.hear(one)
    follower.hear(two)

    assert watcher.texts == ["1", "2", "3"]
    await eventually(lambda: watcher.heals == 1)
    assert len(history.reads) >= 1


async def test_a_gap_that_is_wider_than_what_is_kept_is_read(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """What came too early and was not kept is not taken for filled."""
    entries = history.add("news", *map(str, range(80)))
    for entry in entries[1:]:
        follower.hear(entry)
    follower.hear(entries[0])

    await eventually(lambda: len(watcher.texts) == 80)
    assert len(history.reads) >= 1


async def test_heals_on_an_announced_position(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """A large entry, of which only the position is announced, is read from the history."""
    (entry,) = history.add("news", "large")
    follower.hear_position(entry.position)

    await eventually(lambda: watcher.texts == ["large"])


async def test_heals_on_another_tail(
    follower: Follower, history: ShakyHistory, watcher: Watcher, tasks: Tasks
) -> None:
    """Where the history's tail is another entry than the follower's, it is read; where not, it is not."""
    tail = history.tail(["news"])["news"]
    follower.check(tail)
    assert tasks.all == []

    (entry,) = history.add("news", "unannounced")
    follower.check(entry.position)
    await eventually(lambda: watcher.texts == ["unannounced"])


@pytest.mark.parametrize("offset", [1, 2, 3])
async def test_never_offers_what_does_not_follow(
    follower: Follower, history: ShakyHistory, watcher: Watcher, offset: int
) -> None:
    """A forked or forged entry, next, older or ahead, is never offered: the history is asked."""
    first, second = history.add("news", "1", "2")
    follower.hear(first)
    follower.hear(forged(offset, previous=1234))

    await eventually(lambda: watcher.heals)
    assert watcher.texts == ["1", "2"]
    assert follower.position == second.position


async def test_a_forged_early_entry_blocks_nothing(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """An entry that was kept for later, and then does not follow, gives way to the history's."""
    first, second = history.add("news", "1", "2")
    follower.hear(forged(2, previous=1234))
    follower.hear(first)
    assert watcher.texts == ["1"]

    await eventually(lambda: watcher.texts == ["1", "2"])
    (third,) = history.add("news", "3")
    follower.hear(third)
    assert watcher.texts == ["1", "2", "3"]
    assert follower.position is not None
    assert third.previous == second.tag


async def test_forged_early_entries_do_not_pile_up(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """A flood of entries that nobody appended is bounded, and forgotten when the history was asked."""
    for offset in range(2, 1000):
        follower.hear(forged(offset, previous=offset, tag=offset))
    assert len(follower._early) <= 64

    await eventually(lambda: watcher.heals)
    assert follower._early == {}
    (entry,) = history.add("news", "1")
    follower.hear(entry)
    assert watcher.texts == ["1"]


async def test_a_rollback_makes_every_stream_suspect(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """Where the follower's entry is gone, it goes on from the tail, and its streams ask for themselves."""
    (first,) = history.add("news", "1")
    saved = history.snapshot("news")
    second, third = history.add("news", "2", "3")
    for entry in (first, second, third):
        follower.hear(entry)
    history.restore("news", saved)
    (other,) = history.add("news", "another 2")

    follower.check(other.position)
    await eventually(lambda: watcher.suspected)
    assert follower.position == other.position

    (fourth,) = history.add("news", "4")
    follower.hear(fourth)
    assert watcher.texts == ["1", "2", "3", "4"]


async def test_finds_a_rollback_by_the_next_announcement(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """An entry of an older offset that was never seen tells of a rollback, without any tail check."""
    saved = history.snapshot("news")
    for entry in history.add("news", "1", "2", "3"):
        follower.hear(entry)
    history.restore("news", saved)
    (other,) = history.add("news", "another 1")

    follower.hear(other)
    await eventually(lambda: watcher.suspected)
    assert follower.position == other.position


async def test_a_flushed_history_is_no_silence(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """Where a topic begins anew, the follower stands at its new genesis, and streams are suspect."""
    for entry in history.add("news", "1", "2"):
        follower.hear(entry)
    history.forget("news")
    genesis = history.tail(["news"])["news"]
    assert genesis.offset == 0

    follower.check(genesis)
    await eventually(lambda: watcher.suspected)
    assert follower.position == genesis


async def test_reads_until_there_is_no_more(
    follower: Follower, history: ShakyHistory, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap larger than one read is read to its end."""
    monkeypatch.setattr(followers, "READ_LIMIT", 3)
    texts = [str(number) for number in range(10)]
    follower.check(history.add("news", *texts)[-1].position)

    await eventually(lambda: watcher.texts == texts)
    assert len(history.reads) == 4


async def test_one_healing_at_a_time(follower: Follower, history: ShakyHistory, watcher: Watcher) -> None:
    """However often a healing is asked for, one read is under way; asked during it, it reads once more."""
    history.gate.clear()
    (entry,) = history.add("news", "1")
    for _ in range(5):
        follower.check(entry.position)
    await eventually(lambda: history.reads)
    (late,) = history.add("news", "2")  # behind what the read under way has seen
    for _ in range(5):
        follower.check(late.position)
    history.gate.set()

    await eventually(lambda: watcher.heals)
    assert watcher.texts == ["1", "2"]
    assert history.most_under_way == 1
    assert len(history.reads) == 2


async def test_heals_anew_after_a_healing(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """A healing that is over does not stand in the way of the next one."""
    for number in (1, 2, 3):
        (entry,) = history.add("news", str(number))
        follower.check(entry.position)
        await eventually(lambda number=number: watcher.heals == number)  # type: ignore[misc]

    assert watcher.texts == ["1", "2", "3"]


async def test_drops_a_page_that_was_overtaken(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """Entries that come while the history is read are not offered again by what was read."""
    entries = history.add("news", "1", "2", "3")
    history.gate.clear()
    follower.hear(entries[1])
    await eventually(lambda: history.reads)
    follower.hear(entries[0])
    assert watcher.texts == ["1", "2"]
    history.gate.set()

    await eventually(lambda: watcher.texts == ["1", "2", "3"])
    assert follower.position == entries[2].position


@pytest.mark.parametrize("fault", [HistoryError("down"), RuntimeError("a bug")])
async def test_backs_off_while_the_history_is_down(
    follower: Follower,
    history: ShakyHistory,
    watcher: Watcher,
    fault: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A healing tries again, ever more seldom, says so, and is done when the history is back."""
    history.fault = fault
    (entry,) = history.add("news", "1")
    with caplog.at_level(logging.WARNING, "django_sse.followers"):
        follower.check(entry.position)
        await eventually(lambda: len(history.reads) == 6)
    delays = [float(delay) for delay in re.findall(r"trying again in ([0-9.]+) s", caplog.text)]
    assert delays == sorted(delays)
    assert delays[-1] > delays[0]
    assert watcher.entries == []

    history.fault = None
    await eventually(lambda: watcher.texts == ["1"])
    assert watcher.heals == 1


async def test_tells_streams_of_a_healing_that_found_nothing(
    follower: Follower, history: ShakyHistory, watcher: Watcher
) -> None:
    """Streams that wait for a healing are told of its end also where nothing had changed."""
    follower.heal()

    await eventually(lambda: watcher.heals == 1)
    assert watcher.entries == []
    assert watcher.suspected == 0


def test_a_position_of_its_own() -> None:
    """Two entries with one offset are told apart by their tags."""
    assert Position(offset=1, tag=1) != Position(offset=1, tag=2)
    assert not forged(2, previous=5).follows(Position(offset=1, tag=6))
    assert forged(2, previous=5).follows(Position(offset=1, tag=5))


async def test_what_was_rolled_back_is_offered_to_nobody(
    history: ShakyHistory, watcher: Watcher, tasks: Tasks
) -> None:
    """Entries that still wait for the end of their turn go with the history that lost them."""
    follower = Follower("news", history=history, spawn=tasks.spawn, fan_out=Later(), counters=Counters())
    follower.streams[watcher] = None
    await follower.start()
    (entry,) = history.add("news", "1")
    follower.hear(entry)
    history.forget("news")
    follower.heal()

    await eventually(lambda: watcher.suspected == 1)
    follower.flush()
    assert watcher.texts == []


async def test_a_fan_out_goes_on_where_it_was(history: ShakyHistory, watcher: Watcher, tasks: Tasks) -> None:
    """Streams are offered slice by slice; a flush reaches the rest, and then offers what came meanwhile."""
    follower = Follower("news", history=history, spawn=tasks.spawn, fan_out=Later(), counters=Counters())
    watchers = [watcher, Watcher(), Watcher()]
    follower.streams |= dict.fromkeys(watchers)
    await follower.start()
    first, second = history.add("news", "1", "2")
    follower.hear(first)
    assert follower.pass_on(2) == 2
    follower.hear(second)

    assert [one.texts for one in watchers] == [["1"], ["1"], []]
    follower.flush()
    assert [one.texts for one in watchers] == [["1", "2"]] * 3
    assert follower.pass_on(2) == 0


async def test_a_fan_out_ends_with_the_history_that_it_came_from(
    history: ShakyHistory, watcher: Watcher, tasks: Tasks
) -> None:
    """What was rolled back while it was on its way is offered to nobody any more."""
    follower = Follower("news", history=history, spawn=tasks.spawn, fan_out=Later(), counters=Counters())
    other = Watcher()
    follower.streams |= {watcher: None, other: None}
    await follower.start()
    follower.hear(*history.add("news", "1"))
    follower.pass_on(1)
    history.forget("news")
    follower.heal()

    await eventually(lambda: watcher.suspected == other.suspected == 1)
    follower.flush()
    assert watcher.texts == ["1"]
    assert other.texts == []
