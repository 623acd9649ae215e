"""Saves and deletes of models as events."""

import asyncio
import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import IntegrityError, OperationalError, connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.utils.timezone import now
from pytest_django import DjangoAssertNumQueries, Settings

from django_sse import layers, publishing
from django_sse.commits import Pending, sendings
from django_sse.counters import published
from django_sse.exceptions import HistoryError
from django_sse.history import MemoryHistory
from django_sse.model_events import ModelEvents, muted, publish_queryset, register, registry, telling
from tests.app.models import Article, Draft, Essay, Room
from tests.test_publishing import BrokenHistory, Rollback, sent

committed = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def process(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with an empty history, and nobody who hears."""
    settings.DJANGO_SSE = {}
    monkeypatch.setattr(layers, "_process", layers._Process())


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take away what the app has registered, and afterwards what the test has."""
    monkeypatch.setattr(registry, "_registered", [])
    kept = {signal: signal.receivers for signal in (pre_save, post_save, post_delete, m2m_changed)}
    for signal in kept:
        signal.receivers = []
        signal.sender_receivers_cache.clear()
    yield
    for signal, receivers in kept.items():
        signal.receivers = receivers
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
    """It is told as its key, which the row has: a save stays one query."""
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
    articles = [Article.objects.create(title=title) for title in ("One", "Two")]
    pks = [article.pk for article in articles]
    with transaction.atomic():
        new = Article.objects.create(title="New")
        articles[0].title = "Changed"
        articles[0].save()
        articles[1].delete()
        new.title = articles[0].title = "Never saved"
        assert len(told()) == 2

    assert [(name, data["pk"], data["title"]) for name, data in told()[2:]] == [
        ("article-created", new.pk, "New"),
        ("article-updated", pks[0], "Changed"),
        ("article-deleted", pks[1], "Two"),
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
    waiting: list[Callable[[], None]] = []
    monkeypatch.setattr(Pending, "__call__", lambda pending: waiting.append(pending.send))
    article = Article.objects.create(title="One")
    other = Article.objects.create(title="Other")
    for title in ("Two", "Three"):
        article.title = title
        article.save()

    for send in reversed(waiting):
        send()

    assert [(data["pk"], data["title"]) for _, data in told()] == [(article.pk, "Three"), (other.pk, "Other")]


class OtherConnection:
    """A connection in a transaction, as far as a model event needs it."""

    connection = object()
    in_atomic_block = autocommit = True

    def __init__(self) -> None:
        self.run_on_commit: list[Any] = []
        self.atomic_blocks = [object()]
        self.savepoint_ids: list[str] = []

    def on_commit(self, callback: Callable[[], None], *, robust: bool) -> None:
        """Note what waits."""
        self.run_on_commit.append((set(), callback, robust))

    def execute_wrapper(self, wrapper: object) -> Any:
        """Do nothing: no query comes."""
        return nullcontext()

    def get_rollback(self) -> bool:
        """Say that all is well."""
        return False


def test_the_database_is_the_one_that_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event waits for the commit of the database that the row was saved to."""
    others = {"one": OtherConnection(), "other": OtherConnection()}
    for module in ("django_sse.commits", "django_sse.model_events.rows"):
        monkeypatch.setattr(f"{module}.connections", others)

    post_save.send(Article, instance=Article(pk=5), created=True, using="one")
    post_delete.send(Article, instance=Article(pk=5), using="other")

    used = [
        name for name, other in others.items() for _ in sendings(waits for _, waits, _ in other.run_on_commit)
    ]
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


# -- one transaction, one event ------------------------------------------------------------------------


@committed
def test_a_transaction_tells_a_row_once() -> None:
    """Several saves of a row are one event, of the last state, where the last of them stood."""
    article, other = (Article.objects.create(title=title) for title in ("One", "Other"))
    with transaction.atomic():
        for title in ("Two", "Three"):
            article.title = title
            article.save()
        other.save()
        article.title = "Four"
        article.save()

    assert [(name, data["title"]) for name, data in told()[2:]] == [
        ("article-updated", "Other"),
        ("article-updated", "Four"),
    ]


Step = Callable[[Article], Any]


def create(article: Article) -> None:
    """Insert the row."""
    article.save(force_insert=True)


def update(article: Article) -> None:
    """Change the row."""
    article.title += "!"
    article.save(force_update=True)


def delete(article: Article) -> None:
    """Delete the row, and keep its key for another one."""
    Article(pk=article.pk, title=article.title).delete()


@committed
@pytest.mark.parametrize(
    ("exists", "steps", "expected"),
    [
        (False, [create], ("created", "A")),
        (False, [create, update], ("created", "A!")),
        (False, [create, update, update], ("created", "A!!")),
        (False, [create, delete], None),
        (False, [create, update, delete], None),
        (False, [create, delete, create], ("created", "A")),
        (True, [update, delete], ("deleted", "A!")),
        (True, [delete, create], ("updated", "A")),
        (True, [delete, create, update], ("updated", "A!")),
        (True, [delete, create, delete], ("deleted", "A")),
        (True, [update, delete, create, delete], ("deleted", "A!")),
    ],
)
def test_a_transaction_tells_what_it_did(
    *, exists: bool, steps: list[Step], expected: tuple[str, str] | None
) -> None:
    """Its event is the difference between the row before and after it."""
    article = Article(pk=5, title="A")
    if exists:
        create(article)
    before = len(told())

    with transaction.atomic():
        for step in steps:
            step(article)

    found = [(name.removeprefix("article-"), data["title"]) for name, data in told()[before:]]
    assert found == ([] if expected is None else [expected])


@committed
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("actions", "steps", "expected"),
    [
        (["created"], [create, update], ["article-created"]),
        (["updated"], [create, update], []),
        (["deleted"], [create, delete], []),
        (["created", "updated"], [create, delete], []),
    ],
)
def test_actions_are_those_of_the_transaction(
    actions: list[str], steps: list[Step], expected: list[str]
) -> None:
    """A row that is created and then updated was created, for who hears of creations, and of those alone."""
    register(Article)(type("Events", (ModelEvents,), {"to": lambda *_: "articles", "actions": actions}))
    article = Article(pk=5, title="A")

    with transaction.atomic():
        for step in steps:
            step(article)

    assert names() == expected


@committed
def test_rolled_back_savepoints_do_not_count() -> None:
    """What is told is what was committed: the state, and the action, before the savepoint."""
    article = Article.objects.create(title="One")
    with transaction.atomic():
        article.title = "Two"
        article.save()
        with suppress(Rollback), transaction.atomic():
            article.title = "Three"
            article.save()
            with transaction.atomic():
                Article.objects.get().delete()
            raise Rollback
        new = Article(pk=article.pk + 1, title="New")
        with suppress(Rollback), transaction.atomic():
            create(new)
            raise Rollback
        create(new)
        with suppress(Rollback), transaction.atomic():
            delete(new)
            raise Rollback
        update(new)

    assert [(name, data["title"]) for name, data in told()[1:]] == [
        ("article-updated", "Two"),
        ("article-created", "New!"),
    ]


@committed
def test_a_rollback_leaves_nothing_for_the_next_transaction() -> None:
    """A row whose creation was rolled back is created by the next one that does."""
    with suppress(Rollback), transaction.atomic():
        create(Article(pk=5, title="One"))
        raise Rollback
    with transaction.atomic():
        create(Article(pk=5, title="Two"))
    with transaction.atomic():
        update(Article.objects.get())

    assert names() == ["article-created", "article-updated"]


@committed
def test_what_else_waits_keeps_its_place() -> None:
    """A callback that saves finds the transaction over; its event overtakes nothing."""
    article = Article.objects.create(title="One")

    def save_again() -> None:
        article.title = "Again"
        article.save()

    with transaction.atomic():
        article.title = "Two"
        article.save()
        transaction.on_commit(save_again)
        Article.objects.create(title="Other")

    titles = [data["title"] for _, data in told()]
    assert titles == ["One", "Again", "Other"]


# -- as the database has it ----------------------------------------------------------------------------


@committed
@pytest.mark.parametrize("alone_or_not", [nullcontext, transaction.atomic])
def test_what_was_not_saved_is_not_told(alone_or_not: Callable[[], Any]) -> None:
    """With update_fields, deferred fields and expressions the row is told, not what the instance says."""
    article = Article.objects.create(title="One")
    with alone_or_not():
        article.title = "Never saved"
        article.save(update_fields=["price"])
    assert told()[-1][1]["title"] == "One"
    assert article.title == "Never saved"

    with alone_or_not():
        article.title = Concat(F("title"), Value("!"))
        article.save()
    assert told()[-1][1]["title"] == "One!"

    with alone_or_not():
        deferred = Article.objects.only("price").get()
        deferred.price = Decimal(2)
        deferred.save()
        assert deferred.get_deferred_fields() >= {"title", "author_id"}
    assert told()[-1] == ("article-updated", {"pk": article.pk, "title": "One!", "author": None})


@committed
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("alone_or_not", [nullcontext, transaction.atomic])
def test_what_the_instance_carries_is_told(alone_or_not: Callable[[], Any]) -> None:
    """What a view has put on the instance, such as who saves it, reaches the project's methods."""

    @register(Article)
    class Events(ModelEvents):
        def to(self, instance: Article) -> str:
            return "articles"

        def data(self, instance: Any, action: str) -> object:
            return [instance.title, instance.by]

    article: Any = Article(title="One")
    article.by = "Ann"
    with alone_or_not():
        article.save()
        article.save(update_fields=["title"])

    assert told()[-1][1] == ["One", "Ann"]


@committed
def test_a_row_that_is_gone_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save whose row another has deleted meanwhile leaves the last word to that delete."""
    article = Article.objects.create(title="One")

    def somebody_deletes(*, instance: Article, **_: object) -> None:
        Article.objects.get(pk=instance.pk).delete()

    monkeypatch.setattr(post_save, "receivers", list(post_save.receivers))
    kept, post_save.receivers = post_save.receivers, []
    post_save.connect(somebody_deletes, sender=Article)
    post_save.receivers += kept
    article.save()

    assert names() == ["article-created", "article-deleted"]


@committed
def test_keys_are_those_of_the_database() -> None:
    """A key that was given as a string is that of the same row."""
    Article.objects.create(pk=5, title="One")
    with transaction.atomic():
        Article.objects.get(pk=5).save()
        loose: Any = Article(pk="5", title="Two")  # as from a URL
        loose.save()

    assert [data["title"] for _, data in told()] == ["One", "Two"]


# -- only where it matters -----------------------------------------------------------------------------


@pytest.fixture
def by_title(alone: None) -> None:
    """Tell an article's update where its title or author changed."""

    @register(Article)
    class Events(ModelEvents):
        fields = ["title"]
        when_changed = ["title", "author", "published"]

        def to(self, instance: Article) -> str:
            return "articles"


@committed
@pytest.mark.usefixtures("by_title")
@pytest.mark.parametrize("alone_or_not", [nullcontext, transaction.atomic])
def test_only_changes_are_told(alone_or_not: Callable[[], Any]) -> None:
    """An update is told where one of the fields is another one than the row has; so is every creation."""
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    article = Article.objects.create(title="One", published=moment)
    ann = User.objects.create(username="ann")

    def tells(**values: Any) -> bool:
        options = values.pop("options", {})
        before = len(told())
        for name, value in values.items():
            setattr(article, name, value)
        with alone_or_not():
            article.save(**options)
        return len(told()) > before

    assert not tells()
    assert not tells(price=Decimal(5))
    assert not tells(published="2026-01-02T03:04:05Z"), "it is the same moment"
    assert tells(title="Two")
    assert not tells(title="Two")
    assert tells(author=ann)
    assert not tells(author_id=str(ann.pk))
    assert not tells(title="Three", options={"update_fields": ["price"]}), "it is not written"
    assert tells(options={"update_fields": ["title"]})
    assert tells(title=Concat(F("title"), Value("")))


@committed
@pytest.mark.usefixtures("by_title")
def test_what_is_deferred_has_not_changed() -> None:
    """What was not loaded is not saved, and so costs no query."""
    Article.objects.create(title="One")
    deferred = Article.objects.only("price").get()
    deferred.save()

    assert names() == ["article-created"]


@committed
@pytest.mark.usefixtures("by_title")
def test_the_last_state_counts() -> None:
    """A save that changes nothing of interest replaces what its transaction has to tell already."""
    with transaction.atomic():
        article = Article.objects.create(title="One")
        article.price = Decimal(5)
        article.save()
    with transaction.atomic():
        article.title = "Two"
        article.save()
        article.title = "One"
        article.save()
        article.save()
    with transaction.atomic():
        article.save()
        article.delete()

    assert [(name, data["title"]) for name, data in told()] == [
        ("article-created", "One"),
        ("article-updated", "One"),
        ("article-deleted", "One"),
    ]


# -- many-to-many fields -------------------------------------------------------------------------------


@pytest.fixture
def with_rooms(alone: None) -> None:
    """Tell the rooms of articles, and the members of rooms."""

    @register(Article)
    class Events(ModelEvents):
        many_to_many = ["rooms"]

        def to(self, instance: Article) -> str:
            return "articles"

    @register(Room)
    class RoomEvents(ModelEvents):
        fields = ["name"]
        many_to_many = ["members"]

        def to(self, instance: Room) -> str:
            return "rooms"


@committed
@pytest.mark.usefixtures("with_rooms")
def test_changes_of_a_relation_are_told() -> None:
    """Adding, removing, setting and clearing are updates, whose payload is the list that there is then."""
    article = Article.objects.create(title="One")
    one, two, three = (Room.objects.create(pk=pk) for pk in (30, 20, 10))

    article.rooms.add(one, two)
    article.rooms.add(one)  # it is there
    article.rooms.remove(one)
    article.rooms.set([one, three])
    article.rooms.set([two, three], clear=True)
    article.rooms.clear()
    article.rooms.clear()  # there is none
    article.delete()

    assert [(name.removeprefix("article-"), data.get("rooms")) for name, data in told()] == [
        ("created", []),
        ("updated", [20, 30]),
        ("updated", [20]),
        ("updated", [10, 30]),
        ("updated", [10, 20]),
        ("updated", []),
        ("deleted", None),
    ]


@committed
@pytest.mark.usefixtures("with_rooms")
def test_changes_from_the_other_side_are_told() -> None:
    """Each row that has the field is told, wherever the change was made."""
    articles = [Article.objects.create(title=title) for title in "AB"]
    pks = [article.pk for article in articles]
    room = Room.objects.create(name="Five")
    before = len(told())

    room.article_set.add(*articles)
    room.article_set.remove(articles[0])
    room.article_set.set([articles[0]])
    room.article_set.clear()

    lists = [(data["pk"], data["rooms"]) for _, data in told()[before:]]
    assert lists[:3] == [(pks[0], [room.pk]), (pks[1], [room.pk]), (pks[0], [])]
    assert sorted(lists[3:5]) == [(pks[0], [room.pk]), (pks[1], [])]
    assert lists[5:] == [(pks[0], [])]


@committed
@pytest.mark.usefixtures("with_rooms")
def test_a_relation_is_merged_with_its_row() -> None:
    """A row that is created with its relations in one transaction is created, with all of them."""
    room = Room.objects.create(name="Five")
    with transaction.atomic():
        article = Article.objects.create(title="One")
        article.rooms.add(room)
        with suppress(Rollback), transaction.atomic():
            article.rooms.clear()
            raise Rollback

    assert told() == [("article-created", {"pk": article.pk, "rooms": [room.pk]})]


@committed
@pytest.mark.usefixtures("with_rooms")
def test_a_relation_tells_the_row_and_not_the_instance() -> None:
    """What the instance has not saved is not told with its relations."""
    room = Room.objects.create(name="Five")
    room.name = "Never saved"
    room.members.add(User.objects.create(username="ann"))

    assert told("rooms")[-1][1]["name"] == "Five"
    assert room.name == "Never saved"
    assert not [name for name in vars(room) if name.startswith("_django_sse")]


@committed
@pytest.mark.usefixtures("with_rooms")
def test_what_did_not_happen_is_not_told() -> None:
    """A proxy's relation, a muted one and a fixture's are silent; a failed change leaves nothing behind."""
    room = Room.objects.create(pk=5)
    article = Article.objects.create(title="One")
    before = names()

    Draft.objects.get().rooms.set([room])
    with muted(Article):
        article.rooms.clear()
    text = serializers.serialize("json", [article])
    fixture = json.loads(text)
    fixture[0]["fields"]["rooms"] = [5]
    for deserialized in serializers.deserialize("json", json.dumps(fixture)):
        deserialized.save()
    assert article.rooms.count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        article.rooms.add(99)

    assert names() == before


@committed
@pytest.mark.usefixtures("alone")
def test_both_sides_of_a_symmetrical_field_are_told() -> None:
    """Who becomes a neighbour has one, and who is left has lost one."""

    @register(Room)
    class Events(ModelEvents):
        many_to_many = ["neighbours"]
        actions = ["updated"]

        def to(self, instance: Room) -> str:
            return "rooms"

    one, other = Room.objects.create(pk=1), Room.objects.create(pk=2)
    one.neighbours.add(other)
    other.neighbours.clear()

    assert [(data["pk"], data["neighbours"]) for _, data in told("rooms")] == [
        (1, [2]),
        (2, [1]),
        (1, []),
        (2, []),
    ]


@committed
@pytest.mark.usefixtures("alone")
def test_inheritance_is_as_djangos_signals_are() -> None:
    """Saving a child is told by what is registered for it and not for its parent, a delete by both."""

    @register(Article, Essay)
    class Events(ModelEvents):
        fields = ["title"]
        many_to_many = ["rooms"]

        def to(self, instance: Article) -> str:
            return "articles"

    room = Room.objects.create(name="Five")
    essay = Essay.objects.create(title="One")
    essay.save()
    essay.rooms.add(room)
    room.article_set.clear()
    publish_queryset(Essay.objects.all())
    essay.delete()

    assert [(name, data.get("rooms")) for name, data in told()] == [
        ("essay-created", []),
        ("essay-updated", []),
        ("essay-updated", [room.pk]),
        ("article-updated", []),
        ("essay-updated", []),
        ("essay-updated", []),
        ("essay-deleted", None),
        ("article-deleted", None),
    ]


# -- silence, and what no signal tells -----------------------------------------------------------------


@committed
def test_muted_saves_are_silent() -> None:
    """Of all models, or of those that are named and their proxies; behind the block all is told again."""
    with muted():
        Article.objects.create(title="One")
    with muted(Room):
        Article.objects.create(title="Two")
        with muted(Article):
            article = Article.objects.create(title="Three")
            article.delete()
        Article.objects.create(title="Four")

    assert [data["title"] for _, data in told()] == ["Two", "Four"]


@committed
async def test_only_who_mutes_is_muted() -> None:
    """Another task, and another thread, tell what they save; what the muted one awaits is silent."""
    inside, outside = asyncio.Event(), asyncio.Event()

    async def mute() -> None:
        with muted():
            await Article.objects.acreate(title="Muted")
            inside.set()
            await outside.wait()

    task = asyncio.create_task(mute())
    await inside.wait()
    await Article.objects.acreate(title="Told")
    outside.set()
    await task

    assert [data["title"] for _, data in told()] == ["Told"]


@committed
def test_a_queryset_may_be_told() -> None:
    """What bulk operations wrote is told row by row, in the order of the keys, after the commit."""
    with transaction.atomic():
        Article.objects.bulk_create([Article(pk=pk, title="New") for pk in (7, 3, 5)])
        publish_queryset(Article.objects.filter(title="New"), "created")
        assert told() == []
    Article.objects.filter(pk__lt=7).update(title="Changed")
    publish_queryset(Article.objects.filter(pk__lt=7).order_by("-pk"))
    publish_queryset(Article.objects.order_by("-pk")[:1])
    publish_queryset(Article.objects.filter(rooms__name="None").distinct())

    assert [(name, data["pk"], data["title"]) for name, data in told()] == [
        *[("article-created", pk, "New") for pk in (3, 5, 7)],
        *[("article-updated", pk, "Changed") for pk in (3, 5)],
        ("article-updated", 7, "New"),
    ]


@committed
def test_a_queryset_of_nobody_costs_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    """A model without events, and a muted one, are not read; an unknown action is refused."""
    with django_assert_num_queries(0):
        publish_queryset(User.objects.all())
        with muted():
            publish_queryset(Article.objects.all())
        with pytest.raises(ValueError, match="'saved' is none: choose from created, updated, deleted"):
            publish_queryset(Article.objects.all(), "saved")


# -- and nothing is broken by it -----------------------------------------------------------------------


@committed
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("alone_or_not", [nullcontext, transaction.atomic])
@pytest.mark.parametrize("swallowed", [False, True])
def test_a_failing_query_spoils_nothing(alone_or_not: Callable[[], Any], *, swallowed: bool) -> None:
    """A database error in the project's own code costs the event, or nothing where the project caught it."""
    published.reset()

    @register(Article)
    class Events(ModelEvents):
        def to(self, instance: Article) -> str:
            try:
                User.objects.create(username="ann")
            except IntegrityError:
                if not swallowed:
                    raise
            return "articles"

    User.objects.create(username="ann")
    with alone_or_not():
        Article.objects.create(title="One")
        Article.objects.create(title="Two")

    assert Article.objects.count() == 2
    assert (len(told()), published.failed) == ((2, 0) if swallowed else (0, 2))


@committed
@pytest.mark.usefixtures("alone")
def test_what_failed_does_not_tell_what_was_before() -> None:
    """Where the last state cannot be told, one that was never committed is not told either."""

    @register(Article)
    class Events(ModelEvents):
        def to(self, instance: Article) -> str:
            return {"One": "articles"}[instance.title]

    with transaction.atomic():
        article = Article.objects.create(title="One")
        article.title = "Two"
        article.save()

    assert told() == []


@committed
def test_trouble_is_counted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event without a version, one that was not sent, and a row that cannot be locked."""
    published.reset()
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{__name__}.NoVersions"}}
    Article.objects.create(title="One")
    assert (published.unversioned, published.failed) == (1, 0)

    def fails_to_lock(*_: object, **__: object) -> None:
        raise OperationalError("the database is locked")

    settings.DJANGO_SSE = {}
    monkeypatch.setattr(telling, "fresh_copy", fails_to_lock)
    Article.objects.create(title="Two")
    assert (published.unversioned, published.failed) == (2, 0)
    assert [data["title"] for _, data in told()] == ["Two"]

    monkeypatch.undo()
    monkeypatch.setattr(MemoryHistory, "append", fails)
    with transaction.atomic():
        Article.objects.create(title="Three")
    assert (published.unversioned, published.failed) == (2, 1)


@pytest.mark.parametrize(
    ("options", "telling"),
    [
        ({"when_changed": ["tilte"]}, "Events.when_changed: tests_app.Article has no field 'tilte'"),
        ({"when_changed": ["rooms"]}, "Events.when_changed: 'rooms' is no column of tests_app.Article"),
        ({"many_to_many": ["roms"]}, "Events.many_to_many: tests_app.Article has no field 'roms'"),
        ({"many_to_many": ["title"]}, "Events.many_to_many: 'title' is no ManyToManyField"),
    ],
)
def test_names_that_are_none_are_refused(options: dict[str, Any], telling: str) -> None:
    """The error names the class and the field."""
    with pytest.raises(ImproperlyConfigured, match=telling):
        register(Article)(type("Events", (ModelEvents,), {"to": fails, **options}))


# -- fragments ---------------------------------------------------------------------------------------


class Rendered(ModelEvents):
    """Articles as HTML."""

    template = "tests_app/_article.html"
    target = "#articles"
    swap = "prepend"

    def to(self, instance: Article) -> str:
        """Name the topic."""
        return "articles"


@committed
@pytest.mark.usefixtures("alone")
def test_a_template_makes_the_events_fragments() -> None:
    """Created and updated rows are rendered, escaped, under one id; a deleted one is removed by it."""
    register(Article)(Rendered)
    article = Article.objects.create(title="<b>One</b>")
    article.title = "Two"
    article.save()
    pk = article.pk
    article.delete()

    assert told() == [
        (
            "sse-fragment",
            {
                "target": "#articles",
                "swap": "prepend",
                "html": f'<li id="article-{pk}">&lt;b&gt;One&lt;/b&gt; (created)</li>\n',
            },
        ),
        (
            "sse-fragment",
            {
                "target": "#articles",
                "swap": "prepend",
                "html": f'<li id="article-{pk}">Two (updated)</li>\n',
            },
        ),
        ("sse-fragment", {"target": f'[id="article-{pk}"]', "swap": "remove", "html": ""}),
    ]


@committed
@pytest.mark.usefixtures("alone")
def test_a_template_that_fails_breaks_no_save(caplog: pytest.LogCaptureFixture) -> None:
    """The row is saved, what is wrong is logged."""

    @register(Article)
    class Events(Rendered):
        template = "nowhere.html"

    Article.objects.create(title="One")

    assert Article.objects.count() == 1
    assert "was not sent" in logged(caplog)[0]


@pytest.mark.parametrize("wrong", [{"target": " "}, {"swap": "text"}])
def test_a_template_needs_a_place(wrong: dict[str, str]) -> None:
    """It fails at start-up, saying what is missing."""
    with pytest.raises(ImproperlyConfigured, match=r"Wrong\.template needs a target"):
        register(Article)(type("Wrong", (Rendered,), wrong))


@committed
@pytest.mark.usefixtures("alone")
def test_classes_keep_their_orders_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one class tells of a row may not be dropped because another has told of it since."""
    keys: list[str | None] = []

    def note(*args: Any, key: str | None, **options: Any) -> Pending:
        keys.append(key)
        return publishing.prepare(*args, key=key, **options)

    monkeypatch.setattr(telling, "prepare", note)

    @register(Article)
    class First(ModelEvents):
        def to(self, instance: Article) -> str:
            return "articles"

    @register(Article)
    class Second(First):
        pass

    Article.objects.create(title="One")

    assert len(set(keys)) == 2
    assert names() == ["article-created"] * 2


@committed
@pytest.mark.usefixtures("alone")
def test_a_row_that_cannot_be_read_can_be_mended(caplog: pytest.LogCaptureFixture) -> None:
    """The comparison before a save breaks no save: it is logged, and the save counts as a change."""

    @register(Article)
    class Events(ModelEvents):
        when_changed = ["published"]

        def to(self, instance: Article) -> str:
            return "articles"

    article = Article.objects.create(title="One")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tests_app_article SET published = '2026-13-45 00:00:00'")
    article.published = None
    article.save()

    assert Article.objects.get().published is None
    assert names() == ["article-created", "article-updated"]
    assert "could not be compared" in logged(caplog)[0]
