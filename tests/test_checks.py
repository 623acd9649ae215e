"""What is wrong with a project is said by `manage.py check`, with an id and a way out."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db.models.signals import post_delete, post_save
from pytest_django import Settings

from django_sse import access, checks, model_events
from django_sse.model_events import registry
from tests.app.models import Article, Room

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "checks.md"
MEMORY = {"BACKEND": "django_sse.history.MemoryHistory"}
CORE = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


def found(*, deploy: bool = False) -> list[CheckMessage]:
    """Return what this package's checks find in the project."""
    return list(run_checks(tags=["django_sse"], include_deployment_checks=deploy))


def ids(messages: Iterable[CheckMessage]) -> list[str]:
    """Return their ids without the package's name; each has a hint and a text."""
    messages = list(messages)
    assert all(message.hint and message.msg for message in messages)
    return [str(message.id).removeprefix("django_sse.") for message in messages]


@pytest.fixture(autouse=True)
def sound(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with a project in which nothing is wrong, and nothing registered."""
    monkeypatch.setattr(access, "_rules", [])
    monkeypatch.setattr(registry, "_registered", [])
    for signal in (post_save, post_delete):
        monkeypatch.setattr(signal, "receivers", [])
    settings.ASGI_APPLICATION = "mysite.asgi.application"
    settings.INSTALLED_APPS = ["django.contrib.staticfiles", "django_sse"]
    settings.CHANNEL_LAYERS = {}
    settings.DJANGO_SSE = {}


def test_a_sound_project_has_nothing_to_be_said() -> None:
    """The defaults are right, as far as one process serves the site."""
    assert found() == []
    assert ids(found(deploy=True)) == ["W005"]


@pytest.mark.parametrize(
    ("given", "says"),
    [({"HEARBEAT": 3}, "did you mean 'HEARTBEAT'?"), ({"CHECK": 0}, "'CHECK'"), ([], "must be a dict")],
)
def test_wrong_settings(settings: Settings, given: object, says: str) -> None:
    """The error's text is the one that the settings themselves raise."""
    settings.DJANGO_SSE = given

    [error] = found(deploy=True)

    assert ids([error]) == ["E001"]
    assert says in error.msg
    assert error.is_serious()


@pytest.mark.parametrize(
    ("options", "layers", "says"),
    [
        ({"HISTORY": {"BACKEND": "nowhere.History"}}, {}, "cannot be imported"),
        ({"HISTORY": MEMORY}, {"default": {"BACKEND": "tests.test_checks.SharedLayer"}}, "processes share"),
        ({"OUTBOX": True}, {}, "'OUTBOX'] is True, and the history is MemoryHistory, which no transaction"),
        ({}, {"default": {"BACKEND": "nowhere.Layer"}}, "nowhere"),
        ({}, {"default": {"BACKEND": CORE, "CONFIG": {"hosts": ["mailto:nobody"]}}}, "do not fit"),
    ],
    ids=["no history", "process-local under a shared layer", "no outbox", "no layer", "no such host"],
)
def test_a_history_that_cannot_work(
    settings: Settings, options: dict[str, Any], layers: dict[str, Any], says: str
) -> None:
    """It is an error before the first event, not at it."""
    settings.DJANGO_SSE, settings.CHANNEL_LAYERS = options, layers

    # Checks run in no order; beside this one the layer may be warned of.
    [error] = [message for message in found(deploy=True) if message.is_serious()]

    assert ids([error]) == ["E002"]
    assert says in error.msg


def test_wsgi_alone(settings: Settings) -> None:
    """Neither an ASGI application nor daphne: runserver would answer every stream with 501."""
    settings.ASGI_APPLICATION = None
    assert ids(found()) == ["W001"]

    settings.INSTALLED_APPS = ["daphne", *settings.INSTALLED_APPS]
    assert found() == []


def test_without_staticfiles(settings: Settings) -> None:
    """Pages would load a script that nobody serves."""
    settings.INSTALLED_APPS = ["django_sse"]

    assert ids(found()) == ["W002"]


@pytest.mark.parametrize(
    ("host", "version", "expected"),
    [
        ("redis://localhost:6379/0", 8, ["W003"]),
        (("localhost", 6379), 8, ["W003"]),
        ({"address": "redis://localhost:6379/0"}, 9, ["W003"]),
        ("redis://localhost:6379/0", 7, []),
        ("redis://localhost:6379/0?socket_timeout=30", 8, []),
        ({"address": "redis://localhost:6379/0", "socket_timeout": None}, 8, []),
        ({"address": "redis://localhost:6379/0", "socket_timeout": 5}, 8, ["W003"]),
        ("redis://localhost:6379/0?socket_timeout=0.5", 8, ["W003"]),
    ],
)
def test_a_layer_that_gives_up_waiting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, host: object, version: int, expected: list[str]
) -> None:
    """redis-py 8 ends the core layer's blocking read after 5 s, unless its host says otherwise."""
    monkeypatch.setattr("redis.VERSION", (version, 0, 0))
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": CORE, "CONFIG": {"hosts": [host], "capacity": 1000}}}

    assert ids(found(deploy=True)) == expected


@pytest.mark.parametrize(("backend", "expected"), [(CORE, ["W004"]), (PUBSUB, [])])
def test_a_layer_that_keeps_too_little(settings: Settings, backend: str, expected: list[str]) -> None:
    """The core layer keeps 100 messages by default; the other one keeps what comes."""
    host = {"address": "redis://localhost:6379/0", "socket_timeout": 30}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [host]}}}

    assert ids(found(deploy=True)) == expected


def test_rules_of_one_pattern() -> None:
    """Who looks at one of them does not see that another opens the topic."""
    access.allow("news", public=True)
    access.allow("room.<int:pk>")(lambda request, pk: False)
    assert found() == []
    access.allow("news")(lambda request: False)

    [warning] = found()

    assert ids([warning]) == ["W006"]
    assert "'news'" in warning.msg


def test_models_that_tell_twice() -> None:
    """Each save would come as two events; classes for different actions are no repetition."""

    class Saved(model_events.ModelEvents):
        actions = ["created", "updated"]

        def to(self, instance: object) -> str:
            return "articles"

    class Deleted(Saved):
        actions = ["deleted"]

    class Again(Saved):
        actions = ["updated"]

    model_events.register(Article)(Saved)
    model_events.register(Article)(Saved)
    model_events.register(Article, Room)(Deleted)
    assert found() == []
    model_events.register(Article, Room)(Again)

    [warning] = found()

    assert ids([warning]) == ["W007"]
    assert "tests_app.Article" in warning.msg


def test_every_check_stands_in_the_reference() -> None:
    """No id without its line, and no line without its check."""
    source = Path(checks.__file__).read_text()
    listed = re.findall(r"^\| `(django_sse\.[EW]\d{3})` \|", REFERENCE.read_text(), re.MULTILINE)

    assert listed == sorted(set(re.findall(r'id="([^"]+)"', source)))


class SharedLayer:
    """A layer that processes share, without a history of its own."""

    def __init__(self, **_: object) -> None:
        pass
