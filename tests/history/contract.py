"""What every history promises, whatever keeps its entries.

A backend's tests subclass `HistoryContract`, and give it two fixtures and a way to lose everything. Where
a call has twins, plain and coroutine, every test runs with both.
"""

import asyncio
import time
from collections.abc import Collection
from itertools import pairwise
from typing import Any

import pytest

from django_sse.history import BaseHistory, Gone, Page
from django_sse.positions import MAX_TAG, Entry, Position
from django_sse.wire import Event

#: More than any test appends.
ALL = 1000
HOUR = 3600.0


class Calls:
    """A history's coroutines, or their plain twins, which run in threads."""

    def __init__(self, history: BaseHistory, *, plain: bool) -> None:
        self.history = history
        self.plain = plain

    async def add(self, topic: str, event: Event | None = None, **options: Any) -> Entry | None:
        """Append, and return what the history returned."""
        event = Event(text="hi") if event is None else event
        if self.plain:
            return await asyncio.to_thread(self.history.append, topic, event, **options)
        return await self.history.aappend(topic, event, **options)

    async def append(self, topic: str, event: Event | None = None, **options: Any) -> Entry:
        """Append what is not stale."""
        entry = await self.add(topic, event, **options)
        assert entry is not None
        return entry

    async def append_all(self, topic: str, *texts: str) -> list[Entry]:
        """Append several events."""
        return [await self.append(topic, Event(text=text)) for text in texts]

    async def tails(self, topics: Collection[str]) -> dict[str, Position]:
        """Return the tails of several topics."""
        if self.plain:
            return await asyncio.to_thread(self.history.tail, topics)
        return await self.history.atail(topics)

    async def tail(self, topic: str) -> Position:
        """Return the tail of one topic."""
        return (await self.tails([topic]))[topic]

    async def at(self, topics: Collection[str], *, ago: float) -> dict[str, Position]:
        """Return the positions as they stood a while ago."""
        if self.plain:
            return await asyncio.to_thread(self.history.at, topics, ago=ago)
        return await self.history.aat(topics, ago=ago)

    async def next_version(self) -> int:
        """Draw a version."""
        if self.plain:
            return await asyncio.to_thread(self.history.next_version)
        return await self.history.anext_version()

    async def read(self, topic: str, position: Position, *, limit: int = ALL) -> list[Entry]:
        """Read what must not be gone."""
        page = await self.history.read(topic, position, limit=limit)
        assert isinstance(page, Page)
        assert page.more is False
        return list(page.entries)


class HistoryContract:
    """What every history promises."""

    @pytest.fixture
    def history(self) -> BaseHistory:
        """Return an empty history with its default options."""
        raise NotImplementedError

    @pytest.fixture
    def short(self) -> BaseHistory:
        """Return an empty history with the option ``length=3``."""
        raise NotImplementedError

    async def lose_everything(self, history: BaseHistory) -> None:
        """Empty the store behind the history's back, as a flush does."""
        raise NotImplementedError

    @pytest.fixture(params=["plain", "coroutine"])
    def calls(self, request: pytest.FixtureRequest, history: BaseHistory) -> Calls:
        """Return the history's calls, in both kinds."""
        return Calls(history, plain=request.param == "plain")

    @pytest.fixture(params=["plain", "coroutine"])
    def short_calls(self, request: pytest.FixtureRequest, short: BaseHistory) -> Calls:
        """Return the short history's calls, in both kinds."""
        return Calls(short, plain=request.param == "plain")

    # -- appending and reading ----------------------------------------------------------------------

    async def test_a_topic_exists_when_it_is_asked_for(self, calls: Calls) -> None:
        """Its tail is a genesis at offset 0, with a tag, and stays that until something is appended."""
        genesis = await calls.tail("orders")

        assert genesis.offset == 0
        assert 0 <= genesis.tag <= MAX_TAG
        assert await calls.tail("orders") == genesis
        assert await calls.read("orders", genesis) == []

    async def test_an_append_returns_its_entry(self, calls: Calls) -> None:
        """The entry follows the tail, is the new tail, and holds topic, event and time."""
        genesis = await calls.tail("orders")
        before = time.time()

        entry = await calls.append("orders", Event(name="order-saved", text="one\ntwo"))

        assert entry.follows(genesis)
        assert (entry.topic, entry.offset) == ("orders", 1)
        assert entry.event == Event(name="order-saved", text="one\ntwo")
        assert 0 <= entry.tag <= MAX_TAG
        assert before - HOUR < entry.time < time.time() + HOUR  # its own clock's, in seconds since the epoch
        assert await calls.tail("orders") == entry.position

    async def test_a_topic_may_begin_with_an_append(self, calls: Calls) -> None:
        """Where nobody has asked for the tail before, the entry still follows a genesis."""
        entry = await calls.append("orders")

        genesis = Position(offset=0, tag=entry.previous)
        assert await calls.read("orders", genesis) == [entry]

    async def test_entries_are_a_chain(self, calls: Calls) -> None:
        """Each follows the one before, by offset and by tag, and is read as it was returned."""
        genesis = await calls.tail("orders")

        entries = await calls.append_all("orders", "one", "two", "three", "four")

        positions = [genesis, *(entry.position for entry in entries)]
        assert all(entry.follows(before) for entry, before in zip(entries, positions, strict=False))
        for index, position in enumerate(positions):
            assert await calls.read("orders", position) == entries[index:]

    async def test_times_never_go_back(self, calls: Calls) -> None:
        """A later entry is not older."""
        entries = await calls.append_all("orders", *map(str, range(20)))

        assert [entry.time for entry in entries] == sorted(entry.time for entry in entries)

    async def test_a_limit_cuts_a_page(self, calls: Calls) -> None:
        """A page has at most that many entries, says whether there are more, and the next goes on."""
        position = await calls.tail("orders")
        entries = await calls.append_all("orders", *"abcde")

        pages = []
        for _ in range(3):
            page = await calls.history.read("orders", position, limit=2)
            assert isinstance(page, Page)
            pages.append(page)
            position = page.entries[-1].position

        assert [entry for page in pages for entry in page.entries] == entries
        assert [(len(page.entries), page.more) for page in pages] == [(2, True), (2, True), (1, False)]

    async def test_a_page_that_just_fits_has_no_more(self, calls: Calls) -> None:
        """Where the limit is the number of entries, nothing was cut."""
        genesis = await calls.tail("orders")
        entries = await calls.append_all("orders", "a", "b")

        assert await calls.read("orders", genesis, limit=2) == entries

    async def test_topics_are_strangers(self, calls: Calls) -> None:
        """What is appended to one is neither seen in, nor counted by, another."""
        genesis = await calls.tails(["orders", "room.5"])
        [order] = await calls.append_all("orders", "order")
        talk = await calls.append_all("room.5", "a", "b")

        assert await calls.read("orders", genesis["orders"]) == [order]
        assert await calls.read("room.5", genesis["room.5"]) == talk
        assert order.offset == talk[0].offset == 1

    async def test_tails_come_together(self, calls: Calls) -> None:
        """Known and unknown topics are answered in one call, and none at all with nothing."""
        order = await calls.append("orders")

        tails = await calls.tails(["orders", "new"])

        assert set(tails) == {"orders", "new"}
        assert tails["orders"] == order.position
        assert tails["new"] == await calls.tail("new")
        assert await calls.tails([]) == {}

    @pytest.mark.parametrize("topic", ["orders", "Grüße/тема?&=#~%", "🎉", "x" * 200, "{braces}", "a:b*[c]"])
    async def test_any_topic_has_a_history(self, calls: Calls, topic: str) -> None:
        """Whatever a topic may be named, its entries are its own."""
        genesis = (await calls.tails([topic, topic + "!"]))[topic]
        entry = await calls.append(topic)

        assert entry.topic == topic
        assert await calls.read(topic, genesis) == [entry]
        assert (await calls.tail(topic + "!")).offset == 0

    @pytest.mark.parametrize(
        "event",
        [
            Event(text=""),
            Event(text="\n\n"),
            Event(name="Grüße 🎉", text="\u2028\x85\ufeff\x1c тема"),
            Event(name=" ", text='{"a":"\\u0000"}'),
            Event(text="x" * 1_000_000),
        ],
        ids=["empty", "line ends", "unicode", "json", "large"],
    )
    async def test_any_event_is_kept_as_it_is(self, calls: Calls, event: Event) -> None:
        """Name and text come back to the character."""
        genesis = await calls.tail("orders")

        await calls.append("orders", event)

        assert [entry.event for entry in await calls.read("orders", genesis)] == [event]

    # -- what is not there is gone --------------------------------------------------------------------

    async def test_an_entry_that_never_was_is_gone(self, calls: Calls) -> None:
        """A position counts only if that very entry is there, offset and tag; the tail comes instead."""
        genesis = await calls.tail("orders")
        entries = await calls.append_all("orders", "a", "b")
        gone = Gone(tail=entries[-1].position)

        for position in (
            Position(offset=0, tag=genesis.tag ^ 1),
            Position(offset=1, tag=entries[0].tag ^ 1),
            Position(offset=1, tag=entries[1].tag),
            Position(offset=2, tag=entries[1].tag ^ 1),
            Position(offset=3, tag=entries[1].tag),
            Position(offset=2**53 - 1, tag=0),
        ):
            assert await calls.history.read("orders", position, limit=ALL) == gone

    async def test_a_position_in_an_unknown_topic_is_gone(self, calls: Calls) -> None:
        """The topic exists from then on, and the tail that was given is its genesis."""
        gone = await calls.history.read("orders", Position(offset=1, tag=1), limit=ALL)

        assert isinstance(gone, Gone)
        assert gone.tail == await calls.tail("orders")
        assert await calls.read("orders", gone.tail) == []

    async def test_the_oldest_entries_are_trimmed(self, short_calls: Calls) -> None:
        """Only so many stay: a position before them is gone, and one among them is not."""
        genesis = await short_calls.tail("orders")
        entries = await short_calls.append_all("orders", *"abcde")
        gone = Gone(tail=entries[-1].position)

        assert await short_calls.history.read("orders", genesis, limit=ALL) == gone
        assert await short_calls.history.read("orders", entries[0].position, limit=ALL) == gone
        assert await short_calls.read("orders", entries[2].position) == entries[3:]
        assert await short_calls.read("orders", entries[4].position) == []

    async def test_what_stays_is_as_long_as_promised(self, short_calls: Calls) -> None:
        """The last three of many can be resumed from."""
        entries = await short_calls.append_all("orders", *map(str, range(20)))

        for index in (17, 18, 19):
            assert await short_calls.read("orders", entries[index].position) == entries[index + 1 :]

    async def test_trimming_ends_no_chain(self, short_calls: Calls) -> None:
        """Offsets and tags go on as if nothing had been trimmed."""
        entries = await short_calls.append_all("orders", *map(str, range(20)))

        assert [entry.offset for entry in entries] == list(range(1, 21))
        assert all(later.follows(earlier.position) for earlier, later in pairwise(entries))

    async def test_a_topic_is_trimmed_alone(self, short_calls: Calls) -> None:
        """A busy topic costs a quiet one nothing."""
        genesis = await short_calls.tail("quiet")
        quiet = await short_calls.append_all("quiet", "a", "b")
        await short_calls.append_all("busy", *map(str, range(20)))

        assert await short_calls.read("quiet", genesis) == quiet

    async def test_a_flushed_history_is_not_taken_for_the_old_one(self, calls: Calls) -> None:
        """After a loss every old position is gone, though the offsets come again."""
        genesis = await calls.tail("orders")
        old = await calls.append_all("orders", "a", "b")

        await self.lose_everything(calls.history)
        new = await calls.append_all("orders", "c", "d")

        assert [entry.offset for entry in new] == [1, 2]
        for position in (genesis, *(entry.position for entry in old)):
            assert await calls.history.read("orders", position, limit=ALL) == Gone(tail=new[-1].position)

    async def test_a_flush_is_seen_in_the_tail(self, calls: Calls) -> None:
        """The tail check finds a loss even where nothing has been appended since."""
        before = await calls.tail("orders")

        await self.lose_everything(calls.history)

        after = await calls.tail("orders")
        assert (after.offset, after.tag != before.tag) == (0, True)

    # -- positions in time ----------------------------------------------------------------------------

    async def test_now_is_the_tail(self, calls: Calls) -> None:
        """As of this moment, everything has happened."""
        entries = await calls.append_all("orders", "a", "b")

        assert await calls.at(["orders"], ago=0) == {"orders": entries[-1].position}

    async def test_long_ago_is_the_genesis(self, calls: Calls) -> None:
        """As of a moment before the first entry, nothing had: resuming from there brings everything."""
        genesis = await calls.tail("orders")
        entries = await calls.append_all("orders", "a", "b")

        then = await calls.at(["orders"], ago=HOUR)

        assert then == {"orders": genesis}
        assert await calls.read("orders", then["orders"]) == entries

    async def test_long_ago_is_gone_where_entries_were_trimmed(self, short_calls: Calls) -> None:
        """What cannot be brought any more is not passed over in silence."""
        entries = await short_calls.append_all("orders", *"abcde")

        then = await short_calls.at(["orders"], ago=HOUR)

        page = await short_calls.history.read("orders", then["orders"], limit=ALL)
        assert page == Gone(tail=entries[-1].position)

    async def test_moments_come_together(self, calls: Calls) -> None:
        """Several topics, unknown ones too, are answered in one call, and none at all with nothing."""
        await calls.append("orders")

        then = await calls.at(["orders", "new"], ago=HOUR)

        assert list(then) == ["orders", "new"]
        assert then["new"] == await calls.tail("new")
        assert await calls.at([], ago=HOUR) == {}

    # -- idempotency and versions ---------------------------------------------------------------------

    async def test_an_idempotency_key_makes_one_entry(self, calls: Calls) -> None:
        """A second append with the same key returns the first one's entry, whatever else it says."""
        genesis = await calls.tail("orders")
        first = await calls.append("orders", Event(text="first"), idempotency_key="k")
        await calls.append("orders", Event(text="between"))

        assert await calls.append("orders", Event(text="again"), idempotency_key="k") == first
        texts = [entry.event.text for entry in await calls.read("orders", genesis)]
        assert texts == ["first", "between"]

    async def test_a_retry_of_what_was_trimmed_makes_nothing(self, short_calls: Calls) -> None:
        """An old retry neither comes again as a new event, nor brings back what is gone."""
        await short_calls.append("orders", idempotency_key="k")
        tail = (await short_calls.append_all("orders", *"abc"))[-1].position

        assert await short_calls.add("orders", idempotency_key="k") is None
        assert await short_calls.tail("orders") == tail

    async def test_idempotency_keys_are_distinct(self, calls: Calls) -> None:
        """Another key, or none, or the same in another topic, is another event."""
        first = await calls.append("orders", idempotency_key="k")

        others = [
            await calls.append("orders", idempotency_key="K"),
            await calls.append("orders"),
            await calls.append("orders"),
            await calls.append("room.5", idempotency_key="k"),
        ]

        assert [(entry.topic, entry.offset) for entry in others] == [
            ("orders", 2),
            ("orders", 3),
            ("orders", 4),
            ("room.5", 1),
        ]
        assert first.position not in {entry.position for entry in others}

    async def test_a_stale_version_is_dropped(self, calls: Calls) -> None:
        """Per key, versions never go backwards: what is not newer is not stored."""
        genesis = await calls.tail("orders")

        answers = [
            await calls.add("orders", Event(text=str(version)), key="order.1", version=version)
            for version in (5, 3, 5, 6, 6, 5, 10)
        ]

        stored = await calls.read("orders", genesis)
        assert [entry.event.text for entry in stored] == ["5", "6", "10"]
        assert [answer for answer in answers if answer is not None] == stored
        assert [answer is None for answer in answers] == [False, True, True, False, True, True, False]

    async def test_versions_are_compared_per_key_and_topic(self, calls: Calls) -> None:
        """Another key, another topic, or no version at all, is not measured by this one's."""
        await calls.append("orders", key="order.1", version=5)

        assert await calls.add("orders", key="order.2", version=1) is not None
        assert await calls.add("room.5", key="order.1", version=1) is not None
        assert await calls.add("orders", key="order.1") is not None
        assert await calls.add("orders") is not None
        assert await calls.add("orders", key="order.1", version=4) is None

    async def test_versions_are_microseconds(self, calls: Calls) -> None:
        """Versions of the size that a clock gives are told apart to the last digit."""
        version = 2**53 + 1  # beyond what floating-point numbers can tell

        assert await calls.add("orders", key="order.1", version=version) is not None
        assert await calls.add("orders", key="order.1", version=version) is None
        assert await calls.add("orders", key="order.1", version=version + 1) is not None

    async def test_a_retried_version_is_the_entry_that_it_made(self, calls: Calls) -> None:
        """An idempotency key is looked at first: a retry was not overtaken, it has arrived."""
        first = await calls.append("orders", key="order.1", version=5, idempotency_key="k")

        assert await calls.add("orders", key="order.1", version=5, idempotency_key="k") == first
        assert await calls.add("orders", key="order.1", version=9, idempotency_key="k") == first
        assert await calls.add("orders", key="order.1", version=6) is not None

    async def test_drawn_versions_rise(self, calls: Calls) -> None:
        """Each is above those before, and not below the store's clock in microseconds."""
        entry = await calls.append("orders")

        versions = [await calls.next_version() for _ in range(50)]

        assert versions == sorted(set(versions))
        assert versions[0] >= int(entry.time * 1_000_000) - 1

    # -- all at once ----------------------------------------------------------------------------------

    async def test_appends_at_once_are_one_chain(self, history: BaseHistory) -> None:
        """From threads and coroutines together, nothing is lost, nothing doubled, and every link fits."""
        position = await Calls(history, plain=False).tail("orders")
        texts = [str(number) for number in range(100)]

        answers = await asyncio.gather(
            *(
                Calls(history, plain=index % 2 == 0).append("orders", Event(text=text))
                for index, text in enumerate(texts)
            )
        )

        stored = await Calls(history, plain=False).read("orders", position)
        assert sorted(entry.event.text for entry in stored) == sorted(texts)
        assert sorted(answers, key=lambda entry: entry.offset) == stored
        for entry in stored:
            assert entry.follows(position)
            position = entry.position

    async def test_retries_at_once_are_one_event(self, history: BaseHistory) -> None:
        """Twenty appends with one idempotency key give one entry twenty times."""
        answers = await asyncio.gather(
            *(
                Calls(history, plain=index % 2 == 0).append("orders", idempotency_key="k")
                for index in range(20)
            )
        )

        assert {entry.position for entry in answers} == {(await history.atail(["orders"]))["orders"]}

    async def test_versions_drawn_at_once_are_distinct(self, history: BaseHistory) -> None:
        """Nobody draws what another has drawn."""
        versions = await asyncio.gather(
            *(Calls(history, plain=index % 2 == 0).next_version() for index in range(50))
        )

        assert len(set(versions)) == 50

    async def test_readers_see_whole_entries_while_others_append(self, history: BaseHistory) -> None:
        """Reading along with appends gives the chain in order, without gap or repetition."""
        calls = Calls(history, plain=False)
        position = await calls.tail("orders")

        async def publish(publisher: int) -> None:
            for number in range(25):
                await Calls(history, plain=publisher % 2 == 0).append(
                    "orders", Event(text=f"{publisher}.{number}")
                )

        publishers = asyncio.gather(*(publish(number) for number in range(4)))
        seen = 0
        async with asyncio.timeout(30):
            while seen < 100:
                page = await history.read("orders", position, limit=7)
                assert isinstance(page, Page)
                for entry in page.entries:
                    assert entry.follows(position)
                    position = entry.position
                seen += len(page.entries)
                await asyncio.sleep(0)
            await publishers
        assert await calls.read("orders", position) == []
