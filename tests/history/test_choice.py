"""Which history the settings choose."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from channels.layers import BaseChannelLayer
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from django_sse.history import BaseHistory, MemoryHistory, get_history
from django_sse.history.database import DatabaseHistory
from django_sse.history.redis import RedisHistory

MEMORY = {"BACKEND": "django_sse.history.MemoryHistory"}
LOCAL = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
SHARED = {"default": {"BACKEND": f"{__name__}.SharedLayer"}}


class SharedLayer(BaseChannelLayer):
    """Stands for a layer that several processes share."""


class NoRedisLayer(BaseChannelLayer):
    """A layer that says it is of channels_redis, whose hosts are never asked."""

    def __init__(self, **options: Any) -> None:
        pass


NoRedisLayer.__module__ = "channels_redis.changed"


class SharedHistory(MemoryHistory):
    """Stands for a history that several processes share."""

    shared = True


class CountedHistory(MemoryHistory):
    """Counts how many were made."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        CountedHistory.made += 1


def choose(settings: Settings, **given: Any) -> BaseHistory:
    """Return what these settings choose."""
    settings.DJANGO_SSE = {}
    for name, value in given.items():
        setattr(settings, name, value)
    return get_history()


def refused(settings: Settings, **given: Any) -> str:
    """Return what the project is told about these settings."""
    with pytest.raises(ImproperlyConfigured) as caught:
        choose(settings, **given)
    return str(caught.value)


@pytest.mark.parametrize("layers", [LOCAL, {}], ids=["layer in memory", "no layer"])
def test_one_process_needs_no_settings(settings: Settings, layers: Any) -> None:
    """Where no layer is shared, the history is in memory, with its default limits."""
    chosen = choose(settings, CHANNEL_LAYERS=layers)

    assert type(chosen) is MemoryHistory
    assert vars(chosen)["_length"] == 10_000


def test_a_project_without_channels_settings_has_one_too(settings: Settings) -> None:
    """CHANNEL_LAYERS need not be there at all."""
    del settings.CHANNEL_LAYERS

    assert type(choose(settings)) is MemoryHistory


def test_options_reach_the_history(settings: Settings) -> None:
    """What a project writes into OPTIONS, the history is made with."""
    chosen = choose(settings, DJANGO_SSE={"HISTORY": MEMORY | {"OPTIONS": {"length": 5, "age": 60}}})

    assert isinstance(chosen, MemoryHistory)
    assert (chosen._length, chosen._age) == (5, 60)


def test_a_process_has_one_history(settings: Settings) -> None:
    """Every caller, from whatever thread, gets the same one, until a test overrides the settings."""
    settings.DJANGO_SSE = {"HISTORY": {"BACKEND": f"{__name__}.CountedHistory"}}
    CountedHistory.made = 0
    with ThreadPoolExecutor(8) as threads:
        chosen = set(threads.map(lambda _: get_history(), range(64)))

    assert (len(chosen), CountedHistory.made) == (1, 1)
    settings.DJANGO_SSE = {"CHECK": 1}
    assert get_history() not in chosen


# -- a shared layer ------------------------------------------------------------------------------------


def test_a_shared_layer_without_redis_has_its_history_in_the_database(settings: Settings) -> None:
    """Whatever brings the doorbells, every Django project has a database that its processes share."""
    chosen = choose(settings, CHANNEL_LAYERS=SHARED)

    assert isinstance(chosen, DatabaseHistory)
    assert chosen.using == "default"


def test_memory_is_refused_under_a_shared_layer(settings: Settings) -> None:
    """Other processes would lose its events silently, so the project is told what to do instead."""
    told = refused(settings, CHANNEL_LAYERS=SHARED, DJANGO_SSE={"HISTORY": MEMORY})

    assert f"CHANNEL_LAYERS['default'] is {__name__}.SharedLayer, which several processes share" in told
    assert '"BACKEND": "channels.layers.InMemoryChannelLayer"' in told
    assert "DJANGO_SSE = {'CHANNEL_LAYER': 'sse'}" in told
    assert "a shared one in DJANGO_SSE['HISTORY']" in told


@pytest.mark.parametrize("layer", ["core.RedisChannelLayer", "pubsub.RedisPubSubChannelLayer"])
def test_redis_keeps_the_history_of_its_layer(settings: Settings, layer: str) -> None:
    """With channels_redis nothing more is configured; its keys stand beside the layer's own."""
    config = {"hosts": [("127.0.0.1", 6399)], "prefix": "site"}
    layers = {"default": {"BACKEND": f"channels_redis.{layer}", "CONFIG": config}}

    chosen = choose(settings, CHANNEL_LAYERS=layers)

    assert isinstance(chosen, RedisHistory)
    assert chosen.shared


def test_a_wrong_host_is_refused_without_its_password(settings: Settings) -> None:
    """The error says where the hosts stand; what they are may be a secret."""
    config = {"hosts": [{"password": "secret"}, 5]}
    layers = {"default": {"BACKEND": f"{__name__}.NoRedisLayer", "CONFIG": config}}

    told = refused(settings, CHANNEL_LAYERS=layers)

    assert told.startswith("CHANNEL_LAYERS['default']['CONFIG'] (hosts, prefix) do not fit ")
    assert "secret" not in told


def test_the_advice_works(settings: Settings) -> None:
    """A layer in memory for this package alone, beside the shared one, is what the error says it is."""
    layers = SHARED | {"sse": LOCAL["default"]}

    assert type(choose(settings, CHANNEL_LAYERS=layers, DJANGO_SSE={"CHANNEL_LAYER": "sse"})) is MemoryHistory


def test_the_layer_that_is_named_counts(settings: Settings) -> None:
    """A shared layer by another alias refuses memory as the default one does."""
    layers = LOCAL | {"live": SHARED["default"]}

    assert "CHANNEL_LAYERS['live']" in refused(
        settings, CHANNEL_LAYERS=layers, DJANGO_SSE={"CHANNEL_LAYER": "live", "HISTORY": MEMORY}
    )


def test_a_shared_history_is_taken_under_any_layer(settings: Settings) -> None:
    """Whoever names a history that processes share may share the layer."""
    given = {"HISTORY": {"BACKEND": f"{__name__}.SharedHistory"}}

    assert type(choose(settings, CHANNEL_LAYERS=SHARED, DJANGO_SSE=given)) is SharedHistory
    assert type(choose(settings, CHANNEL_LAYERS=LOCAL, DJANGO_SSE=given)) is SharedHistory


def test_a_refusal_is_not_remembered(settings: Settings) -> None:
    """Asked again, a wrong configuration is refused again; once mended, it works."""
    refused(settings, CHANNEL_LAYERS=SHARED, DJANGO_SSE={"HISTORY": MEMORY})
    with pytest.raises(ImproperlyConfigured):
        get_history()

    assert isinstance(choose(settings, CHANNEL_LAYERS=LOCAL), MemoryHistory)


# -- what is wrong with a backend ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["nowhere.History", "django_sse.history.RedisHistory", "MemoryHistory"])
def test_a_backend_that_cannot_be_imported_is_refused(settings: Settings, path: str) -> None:
    """The error names the path, and why."""
    told = refused(settings, DJANGO_SSE={"HISTORY": {"BACKEND": path}})

    assert told.startswith(f"DJANGO_SSE['HISTORY']['BACKEND'] {path!r} cannot be imported: ")


@pytest.mark.parametrize("path", ["builtins.dict", "django_sse.history.get_history", "json.JSONEncoder"])
def test_a_backend_that_is_no_history_is_refused(settings: Settings, path: str) -> None:
    """The error says what to name instead."""
    told = refused(settings, DJANGO_SSE={"HISTORY": {"BACKEND": path}})

    assert (
        told == f"DJANGO_SSE['HISTORY']['BACKEND'] {path!r} is not a history: name a subclass of BaseHistory"
    )


def test_an_unfinished_backend_is_refused(settings: Settings) -> None:
    """The contract itself keeps nothing; the error says what is missing."""
    told = refused(settings, DJANGO_SSE={"HISTORY": {"BACKEND": "django_sse.history.BaseHistory"}})

    assert "do not fit django_sse.history.BaseHistory" in told
    assert "append" in told


@pytest.mark.parametrize(
    ("options", "telling"),
    [
        ({"size_in_mb": 5}, "unexpected keyword argument 'size_in_mb'"),
        ({"length": 0}, "length is 0: it must be above 0"),
        ({"age": "1 day"}, "'>' not supported between instances of 'str' and 'int'"),
    ],
)
def test_options_that_do_not_fit_are_refused(settings: Settings, options: Any, telling: str) -> None:
    """The error names the options, the backend, and what is wrong with them."""
    told = refused(settings, DJANGO_SSE={"HISTORY": MEMORY | {"OPTIONS": options}})

    assert told.startswith(f"DJANGO_SSE['HISTORY']['OPTIONS'] ({', '.join(options)}) do not fit ")
    assert telling in told


def test_a_forked_child_has_a_history_of_its_own() -> None:
    """Two processes must not continue one log: what a pre-forking server's parent had, its workers do not."""
    script = """
import os
import django
django.setup()
from django_sse import history

parent = history.get_history()
tail = parent.tail(["orders"])
history._lock.acquire()
if os.fork() == 0:
    child = history.get_history()
    print(child is parent, child.tail(["orders"]) == tail, flush=True)
    os._exit(0)
os.wait()
history._lock.release()
print(history.get_history() is parent)
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.stdout == "False False\nTrue\n", run.stderr
