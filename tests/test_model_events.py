"""Saves and deletes of models as events."""

import datetime as dt
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save
from django.utils.timezone import now
from pytest_django import DjangoAssertNumQueries, Settings

from django_sse import layers, publishing
from django_sse.commits import Pending
from django_sse.exceptions import HistoryError
from django_sse.history import MemoryHistory
from django_sse.model_events import ModelEvents, muted, receivers, register, telling
from tests.app.models import Article, Draft, Room
from tests.test_publishing import BrokenHistory, Rollback, sent

committed = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def process(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with an empty history, and nobody who hears."""
    settings.DJANGO_SSE = {}
    monkeypatch.setattr(layers, "_process", layers._Process())


@pytest.fixture
def alone() -> Iterator[None]:
    """Take away what the app has registered, and afterwards what the test has."""
    kept = {signal: signal.receivers for signal in (post_save, post_delete)}
    for signal in kept:
        signal.receivers = []
        signal.sender_receivers_cache.clear()
    yield
    for signal, connected in kept.items():
        signal.receivers = connected
        signal.sender_receivers_cache.clear()


def told(topic: str = "articles") -> list[tuple[str, Any]]:
    """Return the names and payloads of the events of a topic."""
    return [(event.name, json.loads(event.text)) for event in sent(topic)]


def names(topic: str = "articles") -> list[str]:
    """Return the names of the events of a topic."""
    return [event.name for event in sent(topic)]


# -- what is told --------------------------------------------------------------------------------------


@committed
def test_a_model_tells_its_life() -> None:
    """Creating, updating and deleting a row are three events, named by model and action."""
    ann = User.objects.create(username="ann")
    article = Article.objects.create(title="One", author=ann)
    pk = article.pk
    article.title = "Two"
    article.save()
    article.delete()

    assert told() == [
        ("article-created", {"pk": pk, "title": "One", "author": ann.pk}),
        ("article-updated", {"pk": pk, "title": "Two", "author": ann.pk}),
        ("article-deleted", {"pk": pk, "title": "Two", "author": ann.pk}),
    ]


@committed
def test_what_django_saves_by_itself_is_told() -> None:
    """Deleting a queryset, and cascades, tell each row; get_or_create tells what it creates."""
    ann = User.objects.create(username="ann")
    for title in ("One", "Two", "Three"):
        Article.objects.get_or_create(title=title, author=ann)
    Article.objects.get_or_create(title="One", author=ann)
    Article.objects.filter(title="One").delete()
    ann.delete()

    assert names() == ["article-created"] * 3 + ["article-deleted"] * 3


@committed
def test_what_sends_no_signals_is_not_told() -> None:
    """As documented: bulk operations and update() send no signals, and so no events."""
    Article.objects.bulk_create([Article(title="One"), Article(title="Two")])
    Article.objects.update(title="Three")

    assert told() == []


@committed
def test_a_loaded_fixture_is_not_told() -> None:
    """While it is being loaded other rows may be missing, and nobody waits for it."""
    text = serializers.serialize("json", [Article(pk=5, title="One")])

    for deserialized in serializers.deserialize("json", text):
        deserialized.save()

    assert Article.objects.count() == 1
    assert told() == []


@committed
@pytest.mark.usefixtures("alone")
def test_the_primary_key_is_told_by_default() -> None:
    """Without fields the payload says which row, and nothing that a follower may not see."""

    @register(Article)
    class Events(ModelEvents):
        def to(self, instance: Article) -> str:
            return "articles"

    article = Article.objects.create(title="Secret")

    assert told() == [("article-created", {"pk": article.pk})]


@committed
@pytest.mark.usefixtures("alone")
def test_fields_of_every_kind_are_told() -> None:
    """What Django's JSON encoder knows arrives; a foreign key by its column or its name."""
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)

    @register(Article)
    class Events(ModelEvents):
        fields = ["id", "price", "published", "author", "author_id"]

        def to(self, instance: Article) -> str:
            return "articles"

    article = Article.objects.create(title="One", price=Decimal("1.50"), published=moment)

    assert told() == [
        (
            "article-created",
            {
                "pk": article.pk,
                "id": article.pk,
                "price": "1.50",
                "published": "2026-01-02T03:04:05.678Z",
                "author": None,
                "author_id": None,
            },
        )
    ]


@committed
def test_a_foreign_key_costs_no_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """It is told as its key, which the row has: a save in a transaction stays one query."""
    ann = User.objects.create(username="ann")
    Article.objects.create(title="One", author=ann)
    article = Article.objects.get()

    with transaction.atomic(), django_assert_num_queries(1):
        article.save()

    assert told()[-1] == ("article-updated", {"pk": article.pk, "title": "One", "author": ann.pk})


@committed
@pytest.mark.usefixtures("alone")
def test_only_the_named_actions_are_told() -> None:
    """What is not among the actions is silent."""

    @register(Article)
    class Events(ModelEvents):
        actions = ["updated"]

        def to(self, instance: Article) -> str:
            return "articles"

    article = Article.objects.create(title="One")
    article.save()
    article.delete()

    assert names() == ["article-updated"]


@committed
@pytest.mark.usefixtures("alone")
def test_a_project_may_word_its_events() -> None:
    """Recipients, names and payloads are methods to override."""

    @register(Article)
    class Events(ModelEvents):
        def to(self, instance: Article) -> list[object]:
            return [instance.author, "articles", f"article.{instance.pk}"]

        def event_name(self, instance: Article, action: str) -> str:
            return f"text-{action}"

        def data(self, instance: Article, action: str) -> object:
            return [action, instance.title.upper()]

    ann = User.objects.create(username="ann")
    article = Article.objects.create(title="One", author=ann)

    for topic in (f"user.{ann.pk}", "articles", f"article.{article.pk}"):
        assert told(topic) == [("text-created", ["created", "ONE"])]


@committed
@pytest.mark.usefixtures("alone")
def test_several_models_may_share_their_events() -> None:
    """Each is told by its own name; a proxy is a model of its own."""

    @register(Article, Draft, Room)
    class Events(ModelEvents):
        def to(self, instance: models.Model) -> str:
            return "articles"

    for model in (Article, Draft, Room):
        model.objects.create()

    assert names() == ["article-created", "draft-created", "room-created"]


@committed
@pytest.mark.usefixtures("alone")
def test_a_model_may_have_several_events() -> None:
    """Two classes for one model tell twice, each to its own; one class registered twice tells once."""

    class Events(ModelEvents):
        topic: ClassVar[str] = "articles"

        def to(self, instance: Article) -> str:
            return self.topic

    class OtherEvents(Events):
        topic = "others"

    assert register(Article)(Events) is Events
    assert register(Article)(Events) is Events
    register(Article)(OtherEvents)

    Article.objects.create(title="One")

    assert (names("articles"), names("others")) == (["article-created"], ["article-created"])


@committed
@pytest.mark.usefixtures("alone")
def test_nobody_may_be_told() -> None:
    """An empty list of recipients is an answer."""

    @register(Article)
    class Events(ModelEvents):
        def to(self, instance: Article) -> list[str]:
            return ["articles"] if instance.published else []

    Article.objects.create(title="One")
    Article.objects.create(title="Two", published=now())

    assert names() == ["article-created"]


# -- when ----------------------------------------------------------------------------------------------


@committed
def test_a_commit_tells() -> None:
    """Nothing is told before it; then everything, in order, as it was when it was saved."""
    with muted():
        second, third = Article.objects.create(title="Second"), Article.objects.create(title="Third")
        pk = third.pk
    with transaction.atomic():
        first = Article.objects.create(title="One")
        second.title = "Two"
        second.save()
        third.delete()
        second.title = "Three"
        assert told() == []

    assert [(name, data["pk"], data["title"]) for name, data in told()] == [
        ("article-created", first.pk, "One"),
        ("article-updated", second.pk, "Two"),
        ("article-deleted", pk, "Third"),
    ]


@committed
def test_a_rollback_tells_nothing() -> None:
    """Neither that of the transaction, nor that of a savepoint."""
    with transaction.atomic():
        Article.objects.create(title="One")
        with suppress(Rollback), transaction.atomic():
            Article.objects.create(title="Two")
            raise Rollback
    with suppress(Rollback), transaction.atomic():
        Article.objects.create(title="Three")
        raise Rollback

    assert [data["title"] for _, data in told()] == ["One"]


@committed
async def test_asynchronous_saves_are_told() -> None:
    """asave() and its kin run in threads, from where events are sent as from anywhere."""
    article = await Article.objects.acreate(title="One")
    article.title = "Two"
    await article.asave()
    await article.adelete()

    assert names() == ["article-created", "article-updated", "article-deleted"]


@committed
def test_a_row_is_not_told_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is drawn at the write: whichever commit is heard of first, the last word stays last."""
    waiting: list[Pending] = []

    def wait(*args: Any, **kwargs: Any) -> Pending:
        waiting.append(publishing.prepare(*args, **kwargs))
        return Pending((), waiting[-1].event, lambda: None)

    monkeypatch.setattr(telling, "prepare", wait)
    article = Article.objects.create(title="One")
    other = Article.objects.create(title="Other")
    for title in ("Two", "Three"):
        article.title = title
        article.save()

    for send in reversed(waiting):
        send()

    assert [(data["pk"], data["title"]) for _, data in told()] == [(article.pk, "Three"), (other.pk, "Other")]


def test_the_database_is_the_one_that_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event waits for the commit of the database that the row was saved to."""
    used: list[str] = []
    monkeypatch.setattr(receivers, "tell", lambda *args, **kwargs: used.append(args[3]))

    post_save.send(Article, instance=Article(pk=5), created=True, using="one")
    post_delete.send(Article, instance=Article(pk=5), using="other")

    assert used == ["one", "other"]


# -- when it fails -------------------------------------------------------------------------------------


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error."""
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


class NoVersions(MemoryHistory):
    """A history that draws no versions."""

    def next_version(self) -> int:
        """Fail."""
        raise HistoryError("no answer")


@committed
def test_an_event_goes_unversioned_rather_than_not_at_all(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no version can be drawn, that is logged, and the event is sent."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{__name__}.NoVersions"}}

    article = Article.objects.create(title="One")
    article.save()

    assert names() == ["article-created", "article-updated"]
    assert logged(caplog) == [f"An event of tests_app.Article with pk {article.pk} goes unversioned"] * 2


@committed
def test_a_save_survives_a_history_that_is_down(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """The row is written; the missing event is in the log."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{BrokenHistory.__module__}.BrokenHistory"}}
    BrokenHistory.broken, kept = frozenset({"articles"}), BrokenHistory.broken
    try:
        with transaction.atomic():
            Article.objects.create(title="One")
    finally:
        BrokenHistory.broken = kept

    assert Article.objects.count() == 1
    assert logged(caplog) == ["An event was not sent"]


def fails(*args: object) -> Any:
    """Fail as a project's own code might."""
    raise ZeroDivisionError("the project's own fault")


@committed
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("broken", "telling"),
    [
        ({"to": fails}, "the project's own fault"),
        ({"to": lambda *_: None}, "cannot be sent to None: name a topic, a user"),
        ({"to": lambda *_: "two words"}, "without blanks"),
        ({"event_name": fails}, "the project's own fault"),
        ({"event_name": lambda *_: "error"}, "is reserved"),
        ({"data": fails}, "the project's own fault"),
        ({"data": lambda *_: object()}, "DJANGO_SSE['JSON_ENCODER']"),
    ],
)
def test_a_save_survives_what_a_project_got_wrong(
    caplog: pytest.LogCaptureFixture, broken: dict[str, Any], telling: str
) -> None:
    """The row is written, and the log says which event was not sent, and why."""
    register(Article)(type("Events", (ModelEvents,), {"to": lambda *_: "articles"} | broken))

    with transaction.atomic():
        article = Article.objects.create(title="One")

    assert Article.objects.count() == 1
    assert logged(caplog) == [f"The created event of tests_app.Article with pk {article.pk} was not sent"]
    assert telling in caplog.text


# -- what is refused at start-up -----------------------------------------------------------------------


def test_recipients_must_be_named() -> None:
    """Events without to() would be heard by nobody."""

    class Events(ModelEvents):
        fields = ["title"]

    with pytest.raises(ImproperlyConfigured, match=r"Events does not define to\(\): nobody would hear"):
        register(Article)(Events)
    with pytest.raises(NotImplementedError, match=r"Events must define to\(\)"):
        Events().to(Article())


@pytest.mark.parametrize("actions", [["created", "saved"], "created", ["Created"]])
def test_unknown_actions_are_refused(actions: Any) -> None:
    """The error names them, and those that there are."""
    events = type("Events", (ModelEvents,), {"to": fails, "actions": actions})

    with pytest.raises(
        ImproperlyConfigured, match=r"Events.actions has \[.+\]: choose from created, updated, deleted"
    ):
        register(Article)(events)


def test_unknown_fields_are_refused() -> None:
    """Django's own error names the model and the field."""
    with pytest.raises(FieldDoesNotExist, match="Article has no field named 'tilte'"):
        register(Article)(type("Events", (ModelEvents,), {"to": fails, "fields": ["title", "tilte"]}))


@pytest.mark.parametrize(("model", "name"), [(Article, "rooms"), (Room, "article"), (Room, "members")])
def test_fields_without_a_column_are_refused(model: type[models.Model], name: str) -> None:
    """What is no value of the row could not be told at any save, and is refused at the first."""
    events = type("Events", (ModelEvents,), {"to": fails, "fields": [name]})

    with pytest.raises(
        ImproperlyConfigured, match=rf"Events.fields: '{name}' is no column; override data\(\)"
    ):
        register(model)(events)


def test_what_was_refused_is_not_connected() -> None:
    """An error leaves nothing behind."""
    before = len(post_save.receivers)

    test_unknown_actions_are_refused(["saved"])
    test_unknown_fields_are_refused()

    assert len(post_save.receivers) == before
