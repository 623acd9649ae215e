"""The history in a database: the contract over SQLite, PostgreSQL and MariaDB, and what breaks there."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connections, transaction
from pytest_django import DjangoDbBlocker, Settings

from django_sse.exceptions import HistoryError
from django_sse.history import BaseHistory, Gone, Page
from django_sse.history.database import DatabaseHistory
from django_sse.history.database import history as history_module
from django_sse.history.database.entries import decode_notice, encode_notice, topic_key
from django_sse.history.database.line import Line
from django_sse.history.database.statements import CHANNEL
from django_sse.positions import MAX_OFFSET, Entry, Position
from django_sse.wire import Event
from tests.history.contract import ALL, HistoryContract
from tests.history.databases import Make, aside, empty, every_database, execute


class DatabaseContract(HistoryContract):
    """It keeps what every history promises."""

    vendor: ClassVar[str]

    @pytest.fixture
    def history(self, make: Make) -> BaseHistory:
        """Return an empty history with its default options."""
        return make(self.vendor)

    @pytest.fixture
    def short(self, make: Make) -> BaseHistory:
        """Return an empty history with the option ``length=3``."""
        return make(self.vendor, length=3)

    async def lose_everything(self, history: BaseHistory) -> None:
        """Empty the tables."""
        assert isinstance(history, DatabaseHistory)
        await asyncio.to_thread(aside, empty, history.using)


class TestSQLite(DatabaseContract):
    """In a file."""

    vendor = "sqlite"


@pytest.mark.servers
class TestPostgreSQL(DatabaseContract):
    """In PostgreSQL."""

    vendor = "postgresql"


@pytest.mark.servers
class TestMariaDB(DatabaseContract):
    """In MariaDB, by PyMySQL."""

    vendor = "mariadb"


def append(history: DatabaseHistory, text: str = "hi", *, topic: str = "orders", **options: Any) -> Entry:
    """Append what is not stale."""
    entry = history.append(topic, Event(text=text), **options)
    assert entry is not None
    return entry


async def read(history: DatabaseHistory, position: Position, *, limit: int = ALL) -> list[str]:
    """Read the texts of what must not be gone."""
    page = await history.read("orders", position, limit=limit)
    assert isinstance(page, Page)
    return [entry.event.text for entry in page.entries]


async def do(function: Callable[..., Any], *values: Any) -> Any:
    """Call what blocks."""
    return await asyncio.to_thread(aside, function, *values)


# -- transactions --------------------------------------------------------------------------------------


def test_an_append_would_wait_for_its_own_caller(make: Make) -> None:
    """In a transaction of SQLite, which has one lock; so it is refused at once, and why is said."""
    history = make("sqlite")
    tail = history.tail(["orders"])

    with transaction.atomic(using=history.using), pytest.raises(HistoryError, match="on_commit=True"):
        append(history)

    assert history.tail(["orders"]) == tail


@pytest.mark.servers
@pytest.mark.parametrize("vendor", ["postgresql", "mariadb"])
def test_an_append_is_no_part_of_a_transaction(make: Make, vendor: str) -> None:
    """What is sent at once, such as the progress of a job, is there at once, and stays after a rollback."""
    history = make(vendor)

    with suppress(ZeroDivisionError), transaction.atomic(using=history.using):
        execute(history.using, "UPDATE auth_user SET first_name = 'x'")
        entry = append(history)
        assert history.tail(["orders"])["orders"] == entry.position
        raise ZeroDivisionError

    assert history.tail(["orders"])["orders"] == entry.position


@every_database
def test_a_version_is_drawn_in_a_transaction_that_writes(make: Make, vendor: str) -> None:
    """Also where the caller's transaction has the one lock that there is, at once, and rising ever after."""
    history = make(vendor)
    drawn = [history.next_version()]

    with transaction.atomic(using=history.using):
        execute(history.using, "UPDATE auth_user SET first_name = 'x'")
        drawn += [history.next_version(), history.next_version()]
    drawn.append(history.next_version())

    assert drawn == sorted(set(drawn))


def test_a_plain_event_takes_two_statements(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what begins and ends its transaction, and once for a topic's first event."""
    history = make("sqlite")
    append(history)
    said: list[str] = []
    work = history._log.append("orders", Event(text="hi"), made=None, key=None, version=None)

    class Listening:
        def __init__(self, cursor: Any) -> None:
            self.cursor = cursor

        def execute(self, statement: str, values: Any = None) -> None:
            said.append(statement)
            self.cursor.execute(statement, values)

        def fetchone(self) -> Any:
            return self.cursor.fetchone()

    history._writing.ask(lambda cursor: work(Listening(cursor)), begin=history._log.begin)

    assert [statement.split()[0] for statement in said] == ["INSERT", "INSERT"]


# -- what is removed -----------------------------------------------------------------------------------


@every_database
async def test_trimming_removes_what_is_no_longer_promised(make: Make, vendor: str) -> None:
    """What is behind the length and what is too old goes; what can be read stays, the newest in any case."""
    history = make(vendor, length=3)
    entries = [await do(append, history, text) for text in "abcde"]
    quiet = await do(lambda: append(history, topic="quiet"))
    await do(
        execute, history.using, "UPDATE django_sse_entry SET time = 1 WHERE topic = %s", topic_key("quiet")
    )

    assert await do(history.trim) == 2
    assert await do(history.trim) == 0
    assert await read(history, entries[2].position) == ["d", "e"]
    page = await history.read("quiet", quiet.position, limit=ALL)
    assert page == Page(entries=(), more=False)


@every_database
async def test_entries_end_with_their_age(make: Make, vendor: str) -> None:
    """Old ones are removed, and whoever stands there is told; those that stay are one chain."""
    history = make(vendor, age=60)
    entries = [await do(append, history, text) for text in "abc"]
    await do(execute, history.using, "UPDATE django_sse_entry SET time = 1 WHERE text <> %s", b"c")

    assert await do(history.trim) == 2
    gone = await history.read("orders", entries[0].position, limit=ALL)
    assert gone == Gone(tail=entries[2].position)
    assert await read(history, entries[2].position) == []


@every_database
async def test_a_quiet_topic_stays_resumable(make: Make, vendor: str) -> None:
    """Who stands at an entry that grew old goes on from it: the one behind it names it."""
    history = make(vendor, age=60)
    first = await do(append, history, "a")
    await do(execute, history.using, "UPDATE django_sse_entry SET time = 1")
    second = await do(append, history, "b")

    assert await do(history.trim) == 1
    assert await read(history, first.position) == ["b"]
    wrong = Position(offset=1, tag=first.tag ^ 1)
    assert await history.read("orders", wrong, limit=ALL) == Gone(tail=second.position)
    genesis = Position(offset=0, tag=first.previous)
    assert await history.read("orders", genesis, limit=ALL) == Gone(tail=second.position)


@every_database
async def test_long_ago_is_gone_where_entries_were_removed(make: Make, vendor: str) -> None:
    """While all entries are there it is the beginning, then a position that nobody can go on from."""
    history = make(vendor, length=3)
    for text in "abc":
        await do(append, history, text)
    began = (await history.aat(["orders"], ago=3600))["orders"]
    assert await read(history, began) == ["a", "b", "c"]
    last = await do(append, history, "d")

    assert await do(history.trim) == 1
    then = (await history.aat(["orders"], ago=3600))["orders"]
    assert await history.read("orders", then, limit=ALL) == Gone(tail=last.position)


@every_database
def test_keys_are_forgotten_with_their_age(make: Make, vendor: str) -> None:
    """Until then they are known; afterwards the same key makes another event, and its row is removed."""
    history = make(vendor, key_age=60)
    first = append(history, idempotency_key="k", key="order.1", version=5)
    assert append(history, idempotency_key="k") == first
    execute(history.using, "UPDATE django_sse_key SET time = 1")

    assert history.trim() == 2
    assert append(history, idempotency_key="k", key="order.1", version=4).offset == 2


def test_old_keys_count_for_nothing(make: Make) -> None:
    """Also before they are removed."""
    history = make("sqlite", key_age=60)
    append(history, key="order.1", version=5)
    execute(history.using, "UPDATE django_sse_key SET time = 1")

    assert append(history, key="order.1", version=4).offset == 2


@every_database
def test_trimming_goes_in_slices(make: Make, vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long rest is removed a bounded part at a time, entries and keys."""
    monkeypatch.setattr("django_sse.history.database.log._SLICE", 4)
    history = make(vendor, length=1, key_age=60)
    for number in range(10):
        append(history, key=f"order.{number}", version=number)
    execute(history.using, "UPDATE django_sse_key SET time = value")

    removed = []
    while count := history.trim():
        removed.append(count)

    assert sum(removed) == 19
    assert max(removed) <= 8


def test_a_command_trims_and_sweeps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does all there is to do, and says how much that was."""
    history = make("sqlite", length=1)
    for _ in range(5):
        append(history)
    with transaction.atomic(using=history.using):
        history.outbox.store(["orders"], Event(text="left"))
    monkeypatch.setattr("django_sse.history.database.outbox._GRACE", -1.0)
    monkeypatch.setattr("django_sse.management.commands.sse_trim.get_history", lambda: history)
    out = StringIO()

    call_command("sse_trim", stdout=out)

    assert out.getvalue() == "Sent 1 events that were left, removed 5 rows.\n"
    monkeypatch.setattr(history, "trim", _failing)
    with pytest.raises(CommandError, match="not now"):
        call_command("sse_trim", stdout=out)


def test_other_histories_have_nothing_to_trim(settings: Settings) -> None:
    """The command may stand in a crontab whatever the history is."""
    settings.DJANGO_SSE = {}
    out = StringIO()

    call_command("sse_trim", stdout=out)

    assert out.getvalue() == "Sent 0 events that were left, removed 0 rows.\n"


def _failing() -> int:
    raise HistoryError("not now")


# -- damage --------------------------------------------------------------------------------------------


@every_database
@pytest.mark.parametrize(
    ("column", "value"),
    [("tag", 2**41), ("previous", -1), ("name", b"a\nb"), ("text", b"\xff"), ("text", b"\0")],
)
async def test_a_damaged_entry_is_gone(
    make: Make, vendor: str, column: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What was not appended so is not passed on: it is a loss, and logged without what it holds."""
    history = make(vendor)
    entries = [await do(append, history, text) for text in "abc"]
    damage = f"UPDATE django_sse_entry SET {column} = %s WHERE text = %s"
    await do(execute, history.using, damage, value, b"b")

    with caplog.at_level(logging.ERROR):
        page = await history.read("orders", entries[0].position, limit=ALL)

    assert page == Gone(tail=entries[2].position)
    assert "is damaged" in caplog.text
    assert await read(history, entries[2].position) == []


async def test_a_hole_is_gone(make: Make) -> None:
    """Where an entry was deleted by hand nobody reads over it."""
    history = make("sqlite")
    entries = [await do(append, history, text) for text in "abcd"]
    await do(execute, history.using, "DELETE FROM django_sse_entry WHERE text = %s", b"b")

    assert await history.read("orders", entries[0].position, limit=ALL) == Gone(tail=entries[3].position)
    assert await read(history, entries[2].position) == ["d"]
    await do(execute, history.using, "DELETE FROM django_sse_entry")
    genesis = Position(offset=0, tag=entries[0].previous)
    assert await history.read("orders", genesis, limit=ALL) == Gone(tail=entries[3].position)


async def test_large_entries_come_in_small_pages(make: Make) -> None:
    """A page ends after a megabyte, and has one entry at least."""
    history = make("sqlite")
    genesis = (await history.atail(["orders"]))["orders"]
    entries = [await do(append, history, size * "x") for size in (700_000, 2_000_000, 700_000, 5)]

    found, position = [], genesis
    for _ in range(4):
        page = await history.read("orders", position, limit=ALL)
        assert isinstance(page, Page)
        found.append([entry.offset for entry in page.entries])
        position = page.entries[-1].position
        if not page.more:
            break

    assert found == [[1], [2], [3, 4]]
    assert position == entries[3].position


def test_a_clock_that_is_behind_disorders_nothing(make: Make) -> None:
    """Times and versions go on from the last, wherever the clock stands."""
    history = make("sqlite")
    first = append(history)
    ahead = round((time.time() + 3600) * 1_000_000)
    execute(history.using, "UPDATE django_sse_topic SET time = %s", ahead)
    version = history.next_version()
    execute(history.using, "UPDATE django_sse_clock SET version = %s", ahead)

    assert append(history).time == ahead / 1_000_000 > first.time
    assert history.next_version() == ahead + 1 > version


def test_more_topics_than_a_statement_takes(make: Make) -> None:
    """Are asked for in several."""
    history = make("sqlite")
    topics = [f"topic.{number}" for number in range(1201)]
    entry = append(history, topic=topics[1200])

    tails = history.tail(topics)

    assert list(tails) == topics
    assert tails[topics[1200]] == entry.position


# -- a database that does not answer -------------------------------------------------------------------


def test_missing_tables_are_named(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> None:
    """Who has not migrated is told to."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "empty.sqlite3"}
    connections.settings["sse_empty"] = connections.configure_settings({"default": database})["default"]
    with django_db_blocker.unblock():
        history = DatabaseHistory(using="sse_empty")
        with pytest.raises(HistoryError, match=r"no such table: .*manage.py migrate"):
            append(history)
        history.close()
    del connections.settings["sse_empty"]


async def test_a_lock_that_is_not_released_is_an_error_in_time(
    request: pytest.FixtureRequest, make: Make
) -> None:
    """Whoever waits is told within the timeout, nothing is appended later, and what comes next works."""
    make("sqlite")
    history = DatabaseHistory(using=request.getfixturevalue("sqlite"), timeout=0.5)
    held, released = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic(using=history.using):
            execute(history.using, "UPDATE auth_user SET first_name = 'x'")
            held.set()
            released.wait(30)

    holding = asyncio.create_task(do(hold))
    await asyncio.to_thread(held.wait, 30)
    with pytest.raises(HistoryError):
        await history.aappend("orders", Event(text="late"))
    with pytest.raises(HistoryError):
        await do(append, history, "late, too")
    released.set()
    await holding

    entry = await history.aappend("orders", Event(text="in time"))
    assert entry is not None
    assert await read(history, Position(offset=0, tag=entry.previous)) == ["in time"]
    history.close()


async def test_a_thread_that_hangs_is_left_behind(make: Make) -> None:
    """The caller is told in time, and the next one gets another thread."""
    line = Line(make("sqlite").using, timeout=0.2)
    freed = threading.Event()

    with pytest.raises(HistoryError, match=r"does not answer within 0.2 s"):
        line.ask(lambda _: freed.wait(30))
    began = threading.Event()

    def hang(_: object) -> None:
        began.set()
        freed.wait(30)

    hanging = asyncio.create_task(line.aask(hang))
    await asyncio.to_thread(began.wait, 30)
    hanging.cancel()  # its caller has gone; whoever comes next must not wait behind it for ever
    with pytest.raises(HistoryError, match=r"does not answer within 0.2 s"):
        await line.aask(lambda _: "behind it")

    assert await line.aask(lambda _: "answered") == "answered"
    freed.set()
    line.close()
    line.close()


@pytest.mark.servers
async def test_waiting_for_locks_uses_up_no_connections(request: pytest.FixtureRequest, make: Make) -> None:
    """Whoever gave up waiting leaves nobody behind who waits on: the database ends the waiting itself."""
    make("postgresql")
    history = DatabaseHistory(using=request.getfixturevalue("postgresql"), timeout=0.5)
    held, released = threading.Event(), threading.Event()
    counting = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend'"

    def hold() -> None:
        with transaction.atomic(using=history.using):
            execute(history.using, "LOCK TABLE django_sse_topic")
            held.set()
            released.wait(60)

    holding = asyncio.create_task(do(hold))
    await asyncio.to_thread(held.wait, 30)
    for _ in range(6):
        with pytest.raises(HistoryError):
            await history.aappend("orders", Event(text="late"))
        with pytest.raises(HistoryError):
            await history.atail(["orders"])
    assert await do(execute, history.using, counting) <= 8
    released.set()
    await holding
    history.close()


def test_an_error_leaves_nothing_begun(make: Make) -> None:
    """What fails in the middle is rolled back, whatever it raised, and the next job works."""
    history = make("sqlite")

    def fail(error: Exception) -> Callable[[Any], None]:
        def work(cursor: Any) -> None:
            cursor.execute("DELETE FROM django_sse_clock")
            raise error

        return work

    version = history.next_version()
    with pytest.raises(ZeroDivisionError):
        history._writing.ask(fail(ZeroDivisionError()), begin=history._log.begin)
    with pytest.raises(HistoryError, match="IntegrityError"):
        history._writing.ask(fail(IntegrityError("no")), begin=history._log.begin)

    assert history.next_version() > version
    assert execute(history.using, "DELETE FROM django_sse_clock") == 1


@pytest.mark.servers
@pytest.mark.parametrize("vendor", ["postgresql", "mariadb"])
async def test_a_connection_that_was_closed_is_made_anew(make: Make, vendor: str) -> None:
    """A restart of the database between two events costs none of them."""
    history = make(vendor)
    first = await history.aappend("orders", Event(text="before"))
    await history.atail(["orders"])
    assert first is not None
    if vendor == "postgresql":
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        await do(execute, history.using, f"{kill} AND backend_type = 'client backend'")
    else:
        await do(_kill_others, history.using)

    second = await history.aappend("orders", Event(text="after"))

    assert second is not None
    assert second.follows(first.position)
    assert await read(history, first.position) == ["after"]


def _kill_others(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        query = "SELECT id FROM information_schema.processlist WHERE user <> 'system user'"
        cursor.execute(f"{query} AND id <> CONNECTION_ID()")
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")


def test_a_forked_child_has_connections_of_its_own(tmp_path: Path) -> None:
    """Parent and child go on in one chain, each by itself."""
    script = """
import os
import django
django.setup()
from django.core.management import call_command
from django_sse.history import get_history
from django_sse.wire import Event

call_command("migrate", verbosity=0)
history = get_history()
history.append("orders", Event(text="parent"))
if os.fork() == 0:
    print(history.append("orders", Event(text="child")).offset, flush=True)
    os._exit(0)
os.wait()
print(history.append("orders", Event(text="parent")).offset)
"""
    settings = tmp_path / "forking.py"
    settings.write_text(
        "from tests.settings import *\n"
        "CHANNEL_LAYERS = {}\n"
        f"DATABASES['default']['NAME'] = {str(tmp_path / 'db.sqlite3')!r}\n"
        "DJANGO_SSE = {'HISTORY': {'BACKEND': 'django_sse.history.database.DatabaseHistory'}}\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "forking", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.stdout == "2\n3\n", run.stderr


# -- the doorbell of PostgreSQL ------------------------------------------------------------------------


@pytest.mark.servers
async def test_postgresql_tells_what_others_append(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Positions come by themselves, also after the connection was lost; strangers' notices are skipped."""
    history = make("postgresql")
    heard: asyncio.Queue[tuple[str, Position]] = asyncio.Queue()
    tending = asyncio.create_task(history.tend(lambda *news: heard.put_nowait(news)))
    listening = "SELECT 1 FROM pg_stat_activity WHERE query = %s AND state = 'idle'"
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s"
    async with asyncio.timeout(60):
        for _ in range(2):
            while not await do(execute, history.using, listening, f"LISTEN {CHANNEL}"):  # noqa: ASYNC110
                await asyncio.sleep(0)
            await do(execute, history.using, f"NOTIFY {CHANNEL}, 'hello'")
            entry = await history.aappend("orders", Event(text="x" * 100_000))
            assert entry is not None
            assert await heard.get() == ("orders", entry.position)
            await do(execute, history.using, terminate, f"LISTEN {CHANNEL}")
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)

    assert "a notification is malformed" in caplog.text
    assert history.check_every == float("inf")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 7900,
        "[]",
        "5",
        "[1, 2, 3]",
        '["orders", "1", 2]',
        '["a b", 1, 2]',
        '["orders", true, 2]',
        '["orders", 1, -2]',
        f'["orders", {MAX_OFFSET + 1}, 2]',
        '["sse-open", 1, 2]',
    ],
)
def test_a_hostile_notice_is_refused(text: str) -> None:
    """Anybody who may connect may notify."""
    with pytest.raises(ValueError):
        decode_notice(text)


@pytest.mark.parametrize("topic", ["orders", "🎉" * 200, "sse-control"])
def test_a_notice_has_room_for_any_topic(topic: str) -> None:
    """PostgreSQL takes less than 8000 bytes."""
    entry = Entry(topic=topic, offset=MAX_OFFSET, tag=5, previous=4, time=0.0, event=Event(text="hi"))

    assert decode_notice(encode_notice(entry)) == (topic, entry.position)
    assert len(encode_notice(entry)) < 8000


# -- what a hub runs -----------------------------------------------------------------------------------


async def test_a_hub_trims(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without anybody's command, and a failure is no end of it."""
    monkeypatch.setattr(history_module, "_TRIM", 0.01)
    history = make("sqlite", length=1)
    for text in "abc":
        await do(append, history, text)
    trim, results = history._log.trim, list[int]()

    def trimmed(cursor: Any) -> int:
        if not results:
            results.append(0)
            raise HistoryError("not now")
        results.append(trim(cursor))
        return results[-1]

    monkeypatch.setattr(history._log, "trim", trimmed)
    tending = asyncio.create_task(history.tend(lambda *_: None))
    async with asyncio.timeout(30):
        while 2 not in results:  # noqa: ASYNC110
            await asyncio.sleep(0)
    tending.cancel()
    await asyncio.gather(tending, return_exceptions=True)

    assert "Old entries were not removed: not now" in caplog.text
    assert history.check_every == 1.0


# -- options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "telling"),
    [
        ({"length": 0}, "length is 0: it must be above 0"),
        ({"timeout": -1}, "timeout is -1: it must be above 0"),
        ({"using": "nowhere"}, "using is 'nowhere': DATABASES has default"),
    ],
)
def test_wrong_options_are_refused(options: Any, telling: str) -> None:
    """The error says what is wrong, and what is there."""
    with pytest.raises(ValueError, match=telling):
        DatabaseHistory(**options)


def test_an_unknown_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words are not known here."""
    monkeypatch.setattr("django.db.backends.sqlite3.base.DatabaseWrapper.vendor", "oracle")

    with pytest.raises(ValueError, match="its database is of oracle: use PostgreSQL"):
        DatabaseHistory()


def test_versions_are_64_bits(make: Make) -> None:
    """Larger ones have no column."""
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        append(make("sqlite"), key="order.1", version=2**63)
