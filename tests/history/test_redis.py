"""The history in Redis: the contract over a real redis-server, and what breaks there."""

import asyncio
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.utils.module_loading import import_string

from django_sse.exceptions import HistoryError
from django_sse.history import BaseHistory, Gone, Page
from django_sse.history.redis import RedisHistory
from django_sse.positions import MAX_OFFSET, Entry, Position
from django_sse.wire import Event
from tests.history.contract import ALL, HistoryContract
from tests.servers.process import ROOT, StartError, becomes_true
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.servers

SECOND = 1_000_000
LOG, KEYS = "sse:{orders}", "sse:{orders}:keys"


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Return a server that the tests of this module share."""
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """Return an empty server."""
    shared_server.flush()
    return shared_server


Make = Callable[..., RedisHistory]


@pytest.fixture
def make(server: RedisServer) -> Iterator[Make]:
    """Return `make(**options)`: a history on the server, which is closed with the test."""
    with ExitStack() as made:

        def history(**options: Any) -> RedisHistory:
            if "hosts" not in options:
                options.setdefault("url", server.url)
            history = RedisHistory(**options)
            made.callback(history.close)
            return history

        yield history


class TestRedisHistory(HistoryContract):
    """It keeps what every history promises."""

    @pytest.fixture
    def history(self, make: Make) -> BaseHistory:
        """Return an empty history with its default options."""
        return make()

    @pytest.fixture
    def short(self, make: Make) -> BaseHistory:
        """Return an empty history with the option ``length=3``."""
        return make(length=3)

    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self.server = server

    async def lose_everything(self, history: BaseHistory) -> None:
        """Empty the store."""
        self.server.flush()


class TestShardedRedisHistory(TestRedisHistory):
    """With topics spread over several servers, it keeps the same."""

    @pytest.fixture
    def history(self, make: Make, server: RedisServer) -> BaseHistory:
        """Return a history on two databases."""
        return make(hosts=_databases(server))

    @pytest.fixture
    def short(self, make: Make, server: RedisServer) -> BaseHistory:
        """Return a short one."""
        return make(hosts=_databases(server), length=3)


def _databases(server: RedisServer) -> list[str]:
    return [f"redis://127.0.0.1:{server.port}/{number}" for number in range(2)]


def append(history: RedisHistory, text: str = "hi", **options: Any) -> Entry:
    """Append what is not stale."""
    entry = history.append("orders", Event(text=text), **options)
    assert entry is not None
    return entry


def tail(history: RedisHistory) -> Position:
    """Return where the topic stands."""
    return history.tail(["orders"])["orders"]


async def texts_after(history: RedisHistory, position: Position) -> list[str] | None:
    """Return what comes after a position, None where it is gone."""
    page = await history.read("orders", position, limit=ALL)
    return None if isinstance(page, Gone) else [entry.event.text for entry in page.entries]


def now(server: RedisServer) -> int:
    """Return the server's clock in microseconds."""
    seconds, micro = server.command("TIME")
    return int(seconds) * SECOND + int(micro)


def add_by_hand(server: RedisServer, place: str, **fields: object) -> None:
    """Write an entry as a stranger could."""
    words = {"previous": 1, "time": now(server), "name": "message", "text": "by hand"} | fields
    server.command("XADD", LOG, place, *(word for pair in words.items() for word in pair))


# -- several processes -----------------------------------------------------------------------------------


async def test_two_histories_write_one_chain(make: Make) -> None:
    """From threads and coroutines of two, offsets are consecutive, links fit, and a retry finds its event."""
    histories = [make(), make()]
    genesis = tail(histories[0])

    async def publish(number: int) -> Entry | None:
        history, event = histories[number % 2], Event(text=str(number))
        key = f"k{number // 4}"
        if number % 4 < 2:
            return await history.aappend("orders", event, idempotency_key=key)
        return await asyncio.to_thread(history.append, "orders", event, idempotency_key=key)

    made = await asyncio.gather(*(publish(number) for number in range(400)))

    page = await histories[1].read("orders", genesis, limit=ALL)
    assert isinstance(page, Page)
    assert [entry.offset for entry in page.entries] == list(range(1, 101))
    position = genesis
    for entry in page.entries:
        assert entry.follows(position)
        position = entry.position
    for number in range(0, 400, 4):
        assert len({entry and entry.position for entry in made[number : number + 4]}) == 1


async def test_histories_draw_versions_from_one_source(make: Make) -> None:
    """Versions that two draw in turn rise, and go on from what another left behind."""
    histories = [make(), make()]

    versions = [await histories[number % 2].anext_version() for number in range(20)]

    assert versions == sorted(set(versions))


async def test_a_version_counts_on_where_the_clock_is_behind(make: Make, server: RedisServer) -> None:
    """A clock that was set back does not bring versions again."""
    ahead = now(server) + 3600 * SECOND
    server.command("SET", "sse:version", ahead)
    history = make()

    assert [history.next_version(), await history.anext_version()] == [ahead + 1, ahead + 2]


@pytest.mark.parametrize("damage", ["nonsense", str(2**70)])
def test_a_damaged_version_is_replaced_by_the_clock(make: Make, server: RedisServer, damage: str) -> None:
    """What somebody wrote there stops nobody."""
    server.command("SET", "sse:version", damage)

    assert now(server) <= make().next_version() < now(server) + SECOND


def test_a_prefix_separates_sites(make: Make) -> None:
    """Two that share a server see nothing of each other."""
    append(make(prefix="a"))

    assert tail(make(prefix="b")).offset == 0


# -- limits ----------------------------------------------------------------------------------------------


async def test_entries_end_with_their_age(make: Make) -> None:
    """An append drops what is older, never the newest, so that who stands there can go on."""
    history = make(age=1e-6)
    genesis = tail(history)
    entries = [append(history, text) for text in "abc"]

    assert await texts_after(history, genesis) is None
    assert await texts_after(history, entries[0].position) is None
    assert await texts_after(history, entries[1].position) == ["c"]


async def test_all_that_is_too_old_goes_at_once(make: Make, server: RedisServer) -> None:
    """However many have passed their age, one append drops them, and keeps the younger."""
    start = now(server) - 1000 * SECOND
    for offset in range(1, 300):
        add_by_hand(server, f"{offset}-1", time=start + offset * SECOND)
    history = make(age=1000 - 150)

    entry = append(history)

    assert (entry.offset, entry.previous) == (300, 1)
    oldest = int(server.command("XRANGE", LOG, "-", "+", "COUNT", 1)[0][0].partition(b"-")[0])
    assert 150 <= oldest <= 160


async def test_a_quiet_topic_stays_resumable(make: Make, server: RedisServer) -> None:
    """A genesis or an only entry that is older than the age is still followed by the next one."""
    history = make(age=60)
    genesis = tail(history)
    first = append(history, "first")
    assert await texts_after(history, genesis) == ["first"]
    server.flush()
    add_by_hand(server, f"1-{first.tag}", time=now(server) - 3600 * SECOND)

    append(history, "second")

    assert await texts_after(history, first.position) == ["second"]


def test_a_moment_lies_behind_the_entries_before_it(make: Make, server: RedisServer) -> None:
    """The position as of a moment is that of the last entry until then, whatever the length."""
    base = now(server)
    for offset in range(300):
        add_by_hand(server, f"{offset}-{offset + 1}", time=base - (300 - offset) * 100 * SECOND)
    history = make()

    for offset in (0, 1, 7, 149, 150, 298, 299):
        ago = (300 - offset) * 100 - 50
        expected = {"orders": Position(offset=offset, tag=offset + 1)}
        assert history.at(["orders"], ago=ago) == expected, offset
    assert history.at(["orders"], ago=10**9)["orders"] == Position(offset=0, tag=1)


async def test_a_moment_before_what_is_kept_is_gone(make: Make, server: RedisServer) -> None:
    """The position is that of a trimmed entry, whose loss is told."""
    add_by_hand(server, "7-70", previous=60)
    history = make()

    then = (await history.aat(["orders"], ago=3600))["orders"]

    assert then == Position(offset=6, tag=60)
    assert await texts_after(history, then) is None


def test_a_clock_that_is_set_back_disorders_nothing(make: Make, server: RedisServer) -> None:
    """Times stand still until the clock has caught up."""
    ahead = now(server) + 3600 * SECOND
    add_by_hand(server, "1-1", time=ahead)

    assert append(make()).time == ahead / SECOND


async def test_keys_are_forgotten_with_their_age(make: Make) -> None:
    """After it, a retry is another event, and a version counts for nothing."""
    history = make(key_age=1e-6)
    first = append(history, idempotency_key="k")
    append(history, key="order.1", version=5)

    append(history, idempotency_key="other")
    append(history, key="order.2", version=1)

    assert append(history, idempotency_key="k").offset > first.offset
    assert append(history, key="order.1", version=1).offset > first.offset


def test_as_many_keys_are_kept_as_entries(make: Make, server: RedisServer) -> None:
    """Memory is bounded also where every event has its own key; a key that is written again stays."""
    history = make(length=3)
    append(history, key="busy", version=0)
    for number in range(50):
        append(history, idempotency_key=f"k{number}", key=f"order.{number}", version=1)
        append(history, key="busy", version=number + 1)

    # Of each kind three records, three places in the queue and three counters.
    assert server.command("HLEN", KEYS) == 2 * (3 + 3 + 3)
    assert history.append("orders", Event(text=""), key="busy", version=50) is None
    assert history.append("orders", Event(text=""), key="order.49", version=1) is None
    append(history, key="order.0", version=1)


def test_a_long_key_is_kept_as_its_hash(make: Make, server: RedisServer) -> None:
    """Whatever its size, a key takes little room, and another one is another."""
    history = make()
    first = append(history, idempotency_key="k" * 1_000_000, key="\udc80" * 1000, version=-5)

    assert append(history, idempotency_key="k" * 1_000_000) == first
    assert append(history, idempotency_key="k" * 999_999) != first
    assert history.append("orders", Event(text=""), key="\udc80" * 1000, version=-6) is None
    append(history, key="\udc80" * 1000, version=-4)
    assert server.command("MEMORY", "USAGE", KEYS) < 5000


def test_versions_are_64_bits(make: Make) -> None:
    """One that the store cannot compare exactly is refused."""
    with pytest.raises(ValueError, match="version 9223372036854775808 of 'k' does not fit into 64 bits"):
        append(make(), key="k", version=2**63)


def test_a_topic_expires_when_nobody_cares(make: Make, server: RedisServer) -> None:
    """Its keys live for their age and an hour, and following renews that at most hourly."""
    history = make(age=7200, key_age=100)
    append(history, idempotency_key="k")
    assert 10790 <= server.command("TTL", LOG) <= 10800
    assert 3690 <= server.command("TTL", KEYS) <= 3700

    server.command("EXPIRE", LOG, 7300)
    tail(history)
    assert server.command("TTL", LOG) <= 7300

    server.command("EXPIRE", LOG, 7100)
    tail(history)
    assert server.command("TTL", LOG) >= 10790


async def test_large_entries_come_in_small_pages(make: Make) -> None:
    """A page ends after some megabytes, so that it comes within the timeout, and says that there is more."""
    history = make()
    position = tail(history)
    for _ in range(12):
        append(history, "x" * SECOND)

    counts = []
    more = True
    while more:
        page = await history.read("orders", position, limit=ALL)
        assert isinstance(page, Page)
        counts.append(len(page.entries))
        position, more = page.entries[-1].position, page.more
    assert sum(counts) == 12
    assert max(counts) <= 3


async def test_many_readers_are_answered_in_time(make: Make) -> None:
    """Large pages that are read at once come in turns, each within the timeout."""
    history = make(timeout=0.5)
    genesis = tail(history)
    await asyncio.gather(*(history.aappend("orders", Event(text="x" * 100)) for _ in range(400)))

    pages = await asyncio.gather(*(history.read("orders", genesis, limit=ALL) for _ in range(100)))

    assert {len(page.entries) for page in pages if isinstance(page, Page)} == {400}
    assert all(isinstance(page, Page) for page in pages)


def test_the_memory_of_a_topic_is_bounded(make: Make, server: RedisServer) -> None:
    """After twice its length, a topic takes what the module says, for entries and for keys."""
    length, text = 2000, "x" * 100
    history = make(length=length)
    with ThreadPoolExecutor(4) as threads:

        def publish(number: int) -> None:
            append(history, text, idempotency_key=f"k{number:020}", key=f"order.{number:020}", version=number)

        list(threads.map(publish, range(2 * length)))

    entries, keys = (server.command("MEMORY", "USAGE", key, "SAMPLES", 0) for key in (LOG, KEYS))
    beside = entries / length - len(text) - len("message")
    print(f"bytes per entry beside name and text: {beside:.0f}, per key: {keys / length / 2:.0f}")
    assert server.command("XLEN", LOG) == length
    assert beside < 80
    assert keys / length / 2 < 250


# -- tampering -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"text": b"\xff\xfe secret"},
        {"text": "secret\0"},
        {"name": "secret\nid: 5"},
        {"name": ""},
        {"name": b"\xed\xa0\x80 secret"},
        {"time": "secret"},
        {"time": "1e300"},
        {"previous": "-1"},
        {"previous": 2**40},
        {"previous": "9" * 5000},
        {"text": "a,1-1 1 1 1 1", "previous": "1 1"},
        {"previous": " 1"},
        {"previous": 2},
    ],
    ids=str,
)
async def test_a_tampered_entry_is_gone(
    make: Make, server: RedisServer, caplog: pytest.LogCaptureFixture, fields: dict[str, object]
) -> None:
    """Reading up to it works, reading it is answered by Gone, and life goes on behind it."""
    history = make()
    genesis = tail(history)
    good = append(history, "good")
    add_by_hand(server, "2-2", **({"previous": good.tag} | fields))

    page = await history.read("orders", genesis, limit=ALL)

    assert page == Page(entries=(good,), more=True)
    assert await history.read("orders", good.position, limit=ALL) == Gone(tail=Position(offset=2, tag=2))
    after = append(history, "after")
    assert after.offset == 3
    assert await texts_after(history, Position(offset=2, tag=2)) == ["after"]
    assert "topic 'orders'" in caplog.text
    assert "secret" not in caplog.text


async def test_a_stranger_entry_is_gone(make: Make, server: RedisServer) -> None:
    """One without our fields, under an id that Redis made, breaks nothing either."""
    history = make()
    good = append(history, "good")
    server.command("XADD", LOG, "*", "temperature", "21")

    gone = await history.read("orders", good.position, limit=ALL)

    assert isinstance(gone, Gone)
    after = append(history, "after")
    assert after.follows(gone.tail)
    assert await texts_after(history, gone.tail) == ["after"]
    assert isinstance(history.at(["orders"], ago=3600)["orders"], Position)


async def test_a_hole_is_gone(make: Make, server: RedisServer) -> None:
    """Where an entry was deleted, the ones after it do not follow."""
    history = make()
    entries = [append(history, text) for text in "abcde"]
    server.command("XDEL", LOG, f"3-{entries[2].tag}")

    page = await history.read("orders", entries[0].position, limit=ALL)

    assert page == Page(entries=(entries[1],), more=True)
    gone = Gone(tail=entries[4].position)
    assert await history.read("orders", entries[1].position, limit=ALL) == gone
    assert await history.read("orders", entries[2].position, limit=ALL) == gone
    assert await texts_after(history, entries[3].position) == ["e"]


async def test_a_deleted_head_stops_nobody(make: Make, server: RedisServer) -> None:
    """Redis refuses ids that it has seen; the topic then begins anew, and its followers are told."""
    history = make()
    for _ in range(8):  # whether the id is refused is a matter of the drawn tags
        append(history)
        newest = append(history)
        server.command("XDEL", LOG, f"{newest.offset}-{newest.tag}")

        after = append(history, "after")

        assert await texts_after(history, newest.position) is None
        assert await texts_after(history, after.position) == []


@pytest.mark.parametrize(
    "spoil",
    [
        ("SET", LOG, "nonsense"),
        ("HSET", LOG, "a", "b"),
        ("XADD", LOG, f"{2**64 - 1}-{2**64 - 1}", "a", "b"),
        ("XADD", LOG, f"{MAX_OFFSET}-1", "a", "b"),
        ("XADD", LOG, f"5-{2**40}", "a", "b"),
        ("XTRIM", LOG, "MAXLEN", 0),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
async def test_a_spoilt_log_begins_anew(make: Make, server: RedisServer, spoil: Sequence[Any]) -> None:
    """Everybody is told, other topics notice nothing, and publishing goes on."""
    history = make()
    good = append(history)
    other = (await history.atail(["other"]))["other"]
    if spoil[0] != "XADD" and spoil[0] != "XTRIM":
        server.command("DEL", LOG)
    server.command(*spoil)

    tails = await history.atail(["orders", "other"])

    assert tails["other"] == other
    assert tails["orders"].offset == 0
    assert await history.read("orders", good.position, limit=ALL) == Gone(tail=tails["orders"])
    assert append(history).follows(tails["orders"])


def test_spoilt_keys_stop_nobody(make: Make, server: RedisServer) -> None:
    """Whatever is found in place of keys is forgotten."""
    history = make()
    server.command("SET", KEYS, "nonsense")
    first = append(history, idempotency_key="k")
    server.command("HSET", KEYS, "v=order.1", "nonsense", "i>", "nonsense", "v<", "-5", "i:1", "nobody")

    assert append(history, idempotency_key="k") == first
    assert append(history, idempotency_key="l", key="order.1", version=1).offset == 2


# -- faults ----------------------------------------------------------------------------------------------


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Return a server of this test alone."""
    with RedisServer(directory=tmp_path / "redis") as server:
        yield server


@pytest.fixture
def down(own_server: RedisServer) -> Iterator[RedisHistory]:
    """Return a history whose server is in use already, and whose timeout is short."""
    history = RedisHistory(url=own_server.url, timeout=0.3)
    tail(history)
    yield history
    history.close()


@pytest.mark.parametrize("aof", [True, False], ids=["aof", "no aof"])
async def test_a_crash_loses_what_was_not_stored(tmp_path: Path, *, aof: bool) -> None:
    """With AOF `always` nothing that was answered is lost; without, the loss is told."""
    with RedisServer(directory=tmp_path, aof=aof) as server:
        history = RedisHistory(url=server.url)
        genesis = await history.atail(["orders"])
        entries = [append(history, str(number), idempotency_key=str(number)) for number in range(50)]

        server.restart()

        page = await history.read("orders", genesis["orders"], limit=ALL)
        if aof:
            assert page == Page(entries=tuple(entries), more=False)
            assert append(history, idempotency_key="7") == entries[7]
            assert append(history).follows(entries[-1].position)
        else:
            assert isinstance(page, Gone)
            assert page.tail == tail(history)
            assert page.tail.offset == 0
        history.close()


async def test_a_server_that_is_down_is_an_error_at_once(own_server: RedisServer, down: RedisHistory) -> None:
    """Every call raises HistoryError, and works again as soon as the server does."""
    await down.atail(["orders"])
    own_server.kill()
    started = time.monotonic()
    position = Position(offset=1, tag=1)

    for _ in range(2):  # over the broken connection, then over none
        for call in (lambda: append(down), lambda: tail(down), down.next_version):
            with pytest.raises(HistoryError, match="the history in Redis does not answer: ConnectionError"):
                call()
        with pytest.raises(HistoryError):
            down.at(["orders"], ago=1)
        for answer in (
            down.aappend("orders", Event(text="")),
            down.atail(["orders", "other"]),
            down.aat(["orders"], ago=1),
            down.read("orders", position, limit=1),
            down.anext_version(),
        ):
            with pytest.raises(HistoryError, match="the history in Redis does not answer"):
                await answer

    assert time.monotonic() - started < 2
    own_server.start()
    assert append(down).offset == 1
    assert await texts_after(down, position) is None
    assert await down.anext_version() > 0


async def test_a_server_that_freezes_is_an_error_in_time(own_server: RedisServer, down: RedisHistory) -> None:
    """Nobody waits longer than the timeout, however many wait; what had been sent happens once."""
    genesis = (await down.atail(["orders"]))["orders"]
    with own_server.frozen():
        started = time.monotonic()
        with pytest.raises(HistoryError, match="Timeout"):
            append(down, "plain")
        answers = await asyncio.gather(
            *(down.aappend("orders", Event(text=str(number))) for number in range(1000)),
            return_exceptions=True,
        )
        waited = time.monotonic() - started
    assert all(isinstance(answer, HistoryError) for answer in answers)
    assert waited < 2

    assert becomes_true(lambda: append(down, "after").offset > 0, within=5)
    texts = await texts_after(down, genesis)
    assert texts is not None
    assert texts[-1] == "after"
    assert len(texts) == len(set(texts)) < 300


async def test_a_caller_that_gives_up_disturbs_nobody(own_server: RedisServer) -> None:
    """Cancelled while it waits it is not sent for; cancelled later, its answer goes to nobody else."""
    history = RedisHistory(url=own_server.url)
    genesis = (await history.atail(["orders"]))["orders"]
    await history.aappend("other", Event(text="warm"))
    with own_server.frozen():
        sent = [asyncio.create_task(history.aappend("orders", Event(text=f"sent {n}"))) for n in range(3)]
        while not (await _turn() and history._loops[asyncio.get_running_loop()][0].writing[0]._task):
            pass
        while history._loops[asyncio.get_running_loop()][0].writing[0]._waiting:
            await _turn()
        waiting = [asyncio.create_task(history.aappend("orders", Event(text=f"late {n}"))) for n in range(3)]
        await _turn()
        sent[1].cancel()
        waiting[1].cancel()
        await _turn()

    answers = await asyncio.gather(*sent, *waiting, return_exceptions=True)

    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [False, True, False] * 2
    arrived = [answer.event.text for answer in answers if isinstance(answer, Entry)]
    assert arrived == ["sent 0", "sent 2", "late 0", "late 2"]
    assert await texts_after(history, genesis) == ["sent 0", "sent 1", "sent 2", "late 0", "late 2"]
    history.close()


async def _turn() -> bool:
    await asyncio.sleep(0)
    return True


async def test_killed_connections_are_made_anew(make: Make, server: RedisServer) -> None:
    """A connection that the server closed while idle costs no call."""
    history = make()
    for number in range(1, 6):
        assert append(history).offset == 2 * number - 1
        entry = await history.aappend("orders", Event(text=""))
        assert entry is not None
        assert entry.offset == 2 * number
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert becomes_true(lambda: server.connections() == 0, within=5)


async def test_forgotten_scripts_are_sent_again(make: Make, server: RedisServer) -> None:
    """A server that was restarted, or told to forget them, costs no event, and no order."""
    history = make()
    genesis = tail(history)
    append(history, "0")
    server.command("SCRIPT", "FLUSH")
    append(history, "1")
    server.command("SCRIPT", "FLUSH")
    await asyncio.gather(*(history.aappend("orders", Event(text=str(number))) for number in range(2, 50)))
    server.command("SCRIPT", "FLUSH")
    history.tail([f"topic.{number}" for number in range(1000)])

    assert await texts_after(history, genesis) == [str(number) for number in range(50)]


def test_a_full_server_is_an_error_that_loses_nothing(tmp_path: Path) -> None:
    """Where Redis refuses to write, the caller is told, and the log stays as it is."""
    with RedisServer(directory=tmp_path) as server:
        history = RedisHistory(url=server.url)
        last = append(history)
        server.command("CONFIG", "SET", "maxmemory", "1mb")

        with pytest.raises(HistoryError, match=r"OutOfMemory|OOM|maxmemory"):
            append(history)

        server.command("CONFIG", "SET", "maxmemory", 0)
        assert append(history).follows(last.position)
        history.close()


# -- connections -----------------------------------------------------------------------------------------


async def test_calls_share_connections(make: Make, server: RedisServer) -> None:
    """An event loop has one connection that writes and one that reads, threads have one each."""
    history = make()
    for _ in range(20):
        append(history)
        await asyncio.gather(
            *(history.aappend("orders", Event(text="")) for _ in range(20)),
            *(history.atail([f"topic.{number}"]) for number in range(20)),
        )

    assert becomes_true(lambda: server.connections() == 3, within=5)
    history.close()
    async with asyncio.timeout(5):
        while server.connections():
            await _turn()
    append(history)


@pytest.mark.parametrize("run", [lambda function: asyncio.run(function()), lambda f: async_to_sync(f)()])
def test_an_event_loop_takes_its_connections_along(make: Make, server: RedisServer, run: Any) -> None:
    """Loops that come and go leave nothing behind."""
    history = make()

    async def publish() -> None:
        assert await history.aappend("orders", Event(text=""))
        await history.atail(["orders"])

    for _ in range(5):
        run(publish)

    assert becomes_true(lambda: server.connections() == 0, within=5)
    assert len(history._loops) <= 1


async def test_a_forgotten_history_takes_its_connections_along(server: RedisServer) -> None:
    """As after a change of settings: nothing refers to it, so its loop closes what it had."""
    history = RedisHistory(url=server.url)
    await history.atail(["orders"])
    assert becomes_true(lambda: server.connections() == 1, within=5)

    del history

    async with asyncio.timeout(5):
        while server.connections():
            await _turn()


def test_a_forked_child_has_connections_of_its_own(server: RedisServer) -> None:
    """What parent and child say at once is answered to whoever asked."""
    script = """
import asyncio, os, sys
from django_sse.history.redis import RedisHistory
from django_sse.wire import Event

history = RedisHistory(url=sys.argv[1])

async def publish(name, count):
    async def one(number):
        entry = await history.aappend("orders", Event(text=f"{name}.{number}"))
        assert entry.event.text == f"{name}.{number}"
        await history.read("orders", entry.position, limit=1000)
        return entry.offset
    return await asyncio.gather(*(one(number) for number in range(count)))

loop = asyncio.new_event_loop()
loop.run_until_complete(publish("warm", 5))
history.append("orders", Event(text="warm"))
history._lock.acquire()
child = os.fork()
if not child:
    asyncio.run(publish("child", 200))
    history.append("orders", Event(text="child"))
    os._exit(0)
history._lock.release()
offsets = loop.run_until_complete(publish("parent", 200))
offsets.append(history.append("orders", Event(text="parent")).offset)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(len(set(offsets)), history.tail(["orders"])["orders"].offset)
loop.run_until_complete(loop.shutdown_asyncgens())
loop.close()
history.close()
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, server.url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (run.stdout, run.stderr) == ("201 408\n", "")
    assert becomes_true(lambda: server.connections() == 0, within=5)


# -- options ---------------------------------------------------------------------------------------------


async def test_hosts_are_named_as_channels_redis_takes_them(server: RedisServer) -> None:
    """URLs, pairs, and arguments of a connection are the same server."""
    histories = [
        RedisHistory(url=server.url),
        RedisHistory(hosts=[server.url]),
        RedisHistory(hosts=[("127.0.0.1", server.port)]),
        RedisHistory(hosts=[{"host": "127.0.0.1", "port": server.port}]),
        RedisHistory(hosts=[{"address": server.url, "socket_timeout": None, "decode_responses": True}]),
        RedisHistory(hosts=[f"{server.url}?socket_timeout=60&decode_responses=True&retry_on_timeout=True"]),
    ]
    genesis = tail(histories[0])
    for history in histories:
        append(history)
        await history.aappend("orders", Event(text=""))

    for history in histories:
        assert await texts_after(history, genesis) == ["hi", ""] * 6
        assert all(
            client.connection_pool.connection_kwargs["socket_timeout"] == 2 for client in history._clients
        )
        history.close()


async def test_topics_are_spread_over_hosts(make: Make, server: RedisServer) -> None:
    """Each lives on one of them, and together they are answered as ever, in the order asked."""
    history = make(hosts=_databases(server))
    topics = [f"topic.{number}" for number in range(300)]
    for topic in topics[:50]:
        await history.aappend(topic, Event(text=topic))

    tails = await history.atail(topics)

    assert list(tails) == topics
    assert [position.offset for position in tails.values()] == [1] * 50 + [0] * 250
    assert history.tail(topics) == tails
    assert [count for count in (history._clients[n].dbsize() for n in range(2)) if count > 100]


def test_the_local_server_is_the_default() -> None:
    """As with channels_redis."""
    assert RedisHistory()._hosts == RedisHistory(hosts=[])._hosts == [{"address": "redis://localhost:6379"}]


@pytest.mark.parametrize(
    ("options", "error", "telling"),
    [
        ({"length": 0}, ValueError, "length is 0: it must be above 0"),
        ({"timeout": -1}, ValueError, "timeout is -1: it must be above 0"),
        ({"prefix": "a{b}"}, ValueError, "prefix is 'a{b}': use 1 to 100 ASCII letters"),
        ({"prefix": ""}, ValueError, "prefix is ''"),
        ({"hosts": "redis://a"}, TypeError, "hosts is one string: give a list"),
        ({"hosts": ["redis://a"], "url": "redis://b"}, ValueError, "give one of them"),
        ({"url": "http://a"}, ValueError, "use redis://, rediss:// or unix://"),
    ],
)
def test_wrong_options_are_refused(options: Any, error: type[Exception], telling: str) -> None:
    """The error says what was wrong, then what to do."""
    with pytest.raises(error) as caught:
        RedisHistory(**options)
    assert telling in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:s3cret/@a", "redis://:s3cret\uff03@a", "http://:s3cret@a"])
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    """An error shows nothing of a URL, which may hold a password."""
    with pytest.raises(ValueError, match="the URL of a Redis server cannot be read") as caught:
        RedisHistory(url=url)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


async def test_a_refused_password_is_not_shown(server: RedisServer) -> None:
    """Neither an error of the server nor what a log shows of a history has it."""
    history = RedisHistory(url=f"redis://:s3cret@127.0.0.1:{server.port}")
    with pytest.raises(HistoryError) as plain:
        tail(history)
    with pytest.raises(HistoryError) as awaited:
        await history.atail(["orders"])
    lines, _ = history._loops[asyncio.get_running_loop()]

    shown = [repr(history), repr(lines), repr(lines.reading[0])]
    for error in (plain.value, awaited.value):
        shown += traceback.format_exception(error)
    assert "s3cret" not in "".join(shown)
    history.close()


def test_the_dotted_path_names_the_class() -> None:
    """Settings name it as the reference does."""
    assert import_string("django_sse.history.redis.RedisHistory") is RedisHistory


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where redis-server is not installed, tests fail, and say what to install."""
    monkeypatch.setenv("PATH", "")

    with pytest.raises(StartError, match="apt-get install redis-server"):
        RedisServer(directory=tmp_path).start()
