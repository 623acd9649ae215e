"""What is told of a row comes in the order of the commits, on a real PostgreSQL and a real Redis."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connections, transaction
from django.db.models import CharField, F, IntegerField
from django.db.models.functions import Cast
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from pytest_django import DjangoDbBlocker, Settings

from django_sse.counters import published
from django_sse.history import Page, get_history
from django_sse.model_events import ModelEvents, publish_queryset, register, registry
from tests.app.models import Article, Room
from tests.servers.postgres import PostgresServer
from tests.servers.process import becomes_true
from tests.servers.redis import RedisServer

pytestmark = pytest.mark.servers

ALIAS = "rows"
WRITERS, SAVES, ROWS = 8, 100, 4


@pytest.fixture(scope="module")
def postgres(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Add a database with the tables of the tests."""
    with PostgresServer() as server, django_db_blocker.unblock():
        connections.settings[ALIAS] = connections.configure_settings({"default": server.database})["default"]
        try:
            call_command("migrate", database=ALIAS, verbosity=0)
            yield
        finally:
            connections[ALIAS].close()
            del connections[ALIAS], connections.settings[ALIAS]


@pytest.fixture
def pks(postgres: None, settings: Settings, tmp_path: Path) -> Iterator[list[int]]:
    """Return rows that nobody was told of, and keep a history in Redis."""
    with RedisServer(directory=tmp_path / "redis") as redis:
        backend = "django_sse.history.redis.RedisHistory"
        settings.DJANGO_SSE = {"HISTORY": {"BACKEND": backend, "OPTIONS": {"url": redis.url}}}
        published.reset()
        made = [Article(title="0", price=0) for _ in range(ROWS)]
        yield [article.pk for article in Article.objects.using(ALIAS).bulk_create(made)]


def write_at_once(write: Callable[[int, int], object]) -> None:
    """Let writers write at once, each with its number, and how often it has written."""
    together = Barrier(WRITERS)

    def go_on(writer: int) -> None:
        try:
            together.wait(30)
            for count in range(SAVES):
                write(writer, count)
        finally:
            connections[ALIAS].close()

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(go_on, range(WRITERS)))


def payloads(topic: str) -> list[Any]:
    """Return what the history has of a topic."""

    async def read() -> list[Any]:
        history = get_history()
        (start,) = (await history.aat([topic], ago=3600)).values()
        page = await history.read(topic, start, limit=100_000)
        assert isinstance(page, Page)
        return [json.loads(entry.event.text) for entry in page.entries]

    return async_to_sync(read)()


def told() -> dict[int, list[str]]:
    """Return the titles that each row was told with, in the order of the history."""
    titles: dict[int, list[str]] = {}
    for data in payloads("articles"):
        titles.setdefault(data["pk"], []).append(data["title"])
    return titles


@contextmanager
def registered(events: type[ModelEvents]) -> Iterator[None]:
    """Let a class tell articles, in a block."""
    signals = (pre_save, post_save, post_delete, m2m_changed)
    kept = {signal: list(signal.receivers) for signal in signals}
    register(Article)(events)
    try:
        yield
    finally:
        registry._registered.pop()
        for signal, receivers in kept.items():
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()


def check_the_end(pks: list[int], titles: dict[int, list[str]]) -> None:
    """Check that the last word on each row is its state, and that nothing went wrong on the way."""
    final = dict(Article.objects.using(ALIAS).filter(pk__in=pks).values_list("pk", "title"))
    assert {pk: states[-1] for pk, states in titles.items()} == final
    assert (published.unversioned, published.failed) == (0, 0)


@pytest.mark.parametrize("merged", [1, 2])
def test_transactions_are_told_in_order(pks: list[int], merged: int) -> None:
    """Of rows that count up, no count is told below one before it, and the last one is the row's."""

    def count_up(writer: int, count: int) -> None:
        with transaction.atomic(using=ALIAS):
            row = Article.objects.using(ALIAS).select_for_update().get(pk=pks[(writer + count) % ROWS])
            for _ in range(merged):
                row.title = str(int(row.title) + 1)
                row.save()

    write_at_once(count_up)

    titles = told()
    counts = {pk: list(map(int, states)) for pk, states in titles.items()}
    assert set(counts) == set(pks)
    assert all(states == sorted(set(states)) for states in counts.values())
    assert sum(states[-1] for states in counts.values()) == WRITERS * SAVES * merged
    check_the_end(pks, titles)


def test_saves_of_their_own_are_told_in_order(pks: list[int]) -> None:
    """Without transactions too: the database counts up, and no count is told behind a higher one."""

    def count_up(writer: int, count: int) -> None:
        row = Article.objects.using(ALIAS).get(pk=pks[(writer + count) % ROWS])
        row.title = Cast(Cast(F("title"), IntegerField()) + 1, CharField())
        row.save()

    write_at_once(count_up)

    titles = told()
    counts = {pk: list(map(int, states)) for pk, states in titles.items()}
    assert set(counts) == set(pks)
    assert all(states == sorted(states) for states in counts.values())
    assert sum(states[-1] for states in counts.values()) == WRITERS * SAVES
    check_the_end(pks, titles)


#: Notes each state of a row while that is locked, and so in the order of the commits.
LOG = """
CREATE TABLE states (id bigserial, pk bigint, title text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO states (pk, title) VALUES (NEW.id, NEW.title); RETURN NEW; END';
CREATE TRIGGER note AFTER UPDATE ON tests_app_article FOR EACH ROW EXECUTE FUNCTION note();
"""


@pytest.fixture
def committed(pks: list[int]) -> Iterator[Callable[[], dict[int, list[str]]]]:
    """Return a function that returns the states that each row has had, in their order."""

    def states() -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT pk, title FROM states ORDER BY id")
            for pk, title in cursor.fetchall():
                found.setdefault(pk, []).append(title)
        return found

    with connections[ALIAS].cursor() as cursor:
        cursor.execute(LOG)
        yield states
        cursor.execute("DROP TRIGGER note ON tests_app_article; DROP FUNCTION note; DROP TABLE states")


@pytest.mark.parametrize("alone_or_not", ["transactions", "alone", "both"])
def test_states_are_told_in_the_order_of_the_commits(
    pks: list[int], committed: Callable[[], dict[int, list[str]]], alone_or_not: str
) -> None:
    """With and without transactions, what is told may leave out a state, and never goes back."""

    def write(writer: int, count: int) -> None:
        row = Article(pk=pks[(writer + count) % ROWS], title=f"{writer}.{count}")
        if alone_or_not == "alone" or (alone_or_not == "both" and writer % 2):
            row.save(using=ALIAS)
        else:
            with transaction.atomic(using=ALIAS):
                row.save(using=ALIAS)

    write_at_once(write)

    titles, states = told(), committed()
    assert set(titles) == set(states) == set(pks)
    assert sum(map(len, states.values())) == WRITERS * SAVES
    for pk, order in states.items():
        places = [order.index(title) for title in titles[pk]]
        assert places == sorted(places)
    check_the_end(pks, titles)


def test_relations_are_told_in_order(pks: list[int]) -> None:
    """All add to one row at once, from both sides, a hundred times: the last list has them all."""
    rooms = [Room.objects.using(ALIAS).create(name=str(number)) for number in range(WRITERS)]
    made = Article.objects.using(ALIAS).bulk_create([Article() for _ in range(SAVES)])
    together = Barrier(WRITERS, timeout=30)

    class Events(ModelEvents):
        many_to_many = ["rooms"]

        def to(self, instance: Article) -> str:
            return "relations"

    def add(writer: int, count: int) -> None:
        article = Article.objects.using(ALIAS).get(pk=made[count].pk)
        together.wait()
        if writer % 2:
            article.rooms.add(rooms[writer].pk)
        else:
            rooms[writer].article_set.add(article)

    with registered(Events):
        write_at_once(add)

    lists = {data["pk"]: data["rooms"] for data in payloads("relations")}
    assert lists == {article.pk: [room.pk for room in rooms] for article in made}
    assert (published.unversioned, published.failed) == (0, 0)


def test_a_failing_query_spoils_no_transaction(pks: list[int]) -> None:
    """PostgreSQL refuses all statements behind an error; that of the project's own code costs one event."""

    class Events(ModelEvents):
        fields = ["title"]

        def to(self, instance: Article) -> str:
            with connections[ALIAS].cursor() as cursor:
                cursor.execute("SELECT 1 / %s", [int(instance.title != "Two")])
            return "divided"

    with registered(Events), transaction.atomic(using=ALIAS):
        for title in ("One", "Two", "Three"):
            Article.objects.using(ALIAS).create(title=title)
    assert [data["title"] for data in payloads("divided")] == ["One", "Three"]
    assert Article.objects.using(ALIAS).filter(title__in=["One", "Two", "Three"]).count() == 3
    assert published.failed == 1


def test_a_queryset_is_told_in_chunks(pks: list[int]) -> None:
    """Rows are locked and told chunk by chunk, whatever the query joins and the project asks."""

    class Events(ModelEvents):
        fields = ["title"]
        many_to_many = ["rooms"]

        def to(self, instance: Article) -> str:
            return "told"

    new = [Article(title="New") for _ in range(1200)]
    with registered(Events), transaction.atomic(using=ALIAS):
        Article.objects.using(ALIAS).bulk_create(new)
        found = Article.objects.using(ALIAS).filter(title="New").select_related("author").distinct()
        publish_queryset(found.order_by("-pk"), "created")
        assert payloads("told") == []
    assert [data["pk"] for data in payloads("told")] == [article.pk for article in new]


def test_changes_are_found_under_the_lock(pks: list[int]) -> None:
    """In transactions, who waits for another's save compares with what that has written."""

    class Events(ModelEvents):
        fields = ["title"]
        when_changed = ["title"]

        def to(self, instance: Article) -> str:
            return "changed"

    def save() -> None:
        with transaction.atomic(using=ALIAS):
            Article(pk=pks[0], title="Two").save(using=ALIAS)

    def save_elsewhere() -> None:
        try:
            save()
        finally:
            connections[ALIAS].close()

    def waits() -> bool:
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("SELECT FROM pg_locks WHERE NOT granted")
            return bool(cursor.rowcount > 0)

    with registered(Events), ThreadPoolExecutor(1) as pool:
        with transaction.atomic(using=ALIAS):
            save()
            other = pool.submit(save_elsewhere)
            assert becomes_true(waits, within=10)
        other.result(10)
    assert [data["title"] for data in payloads("changed")] == ["Two"]
