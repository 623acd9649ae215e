"""The project's settings: read once, checked, and frozen."""

import re
from dataclasses import FrozenInstanceError, fields
from json import JSONEncoder
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from pytest_django import Settings as DjangoSettings

from django_sse.conf import Settings, get_settings
from django_sse.history import get_history
from django_sse.positions import MAX_CURSOR_TOPICS


class Encoder(JSONEncoder):
    """A project's own."""


def refused(settings: DjangoSettings, value: Any) -> str:
    """Return what the project is told about these settings."""
    settings.DJANGO_SSE = value
    with pytest.raises(ImproperlyConfigured) as caught:
        get_settings()
    return str(caught.value)


def test_no_settings_are_needed(settings: DjangoSettings) -> None:
    """A project that configures nothing gets the documented defaults."""
    if hasattr(settings, "DJANGO_SSE"):
        del settings.DJANGO_SSE

    assert get_settings() == Settings(
        CHANNEL_LAYER="default",
        GROUP_PREFIX="sse",
        HISTORY=None,
        HEARTBEAT=15,
        RETRY=3,
        CHECK=5,
        MAX_AGE=3600,
        MAX_TOPICS=32,
        MAX_STREAMS=None,
        MAX_STREAMS_PER_USER=32,
        MAX_PENDING=2**20,
        MAX_EVENT=2**20,
        RENDER_MARGIN=2,
        JSON_ENCODER=DjangoJSONEncoder,
    )


def test_what_is_given_is_used(settings: DjangoSettings) -> None:
    """A key that the project sets has its value, the others keep theirs."""
    settings.DJANGO_SSE = {"HEARTBEAT": 7, "RENDER_MARGIN": 0, "GROUP_PREFIX": "shop-1.live_"}

    assert get_settings() == Settings(HEARTBEAT=7, RENDER_MARGIN=0, GROUP_PREFIX="shop-1.live_")


def test_every_key_can_be_set_to_its_default(settings: DjangoSettings) -> None:
    """What the defaults are, a project may also write."""
    settings.DJANGO_SSE = {key.name: key.default for key in fields(Settings)}

    assert get_settings() == Settings()


def test_settings_are_read_once(settings: DjangoSettings) -> None:
    """They are one value, until a test overrides them."""
    settings.DJANGO_SSE = {"CHECK": 1}
    first = get_settings()
    assert get_settings() is first

    settings.DJANGO_SSE = {"CHECK": 2}

    assert (first.CHECK, get_settings().CHECK) == (1, 2)


def test_other_settings_are_nobodys_business(settings: DjangoSettings) -> None:
    """A test that overrides something else does not have them read again."""
    settings.DJANGO_SSE = {"CHECK": 1}
    first, history = get_settings(), get_history()

    settings.DEBUG = True

    assert get_settings() is first
    assert get_history() is history


def test_settings_are_frozen() -> None:
    """Nobody changes them behind the others' backs."""
    with pytest.raises(FrozenInstanceError):
        get_settings().CHECK = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("HEARTBEATS", "HEARTBEAT"),
        ("heartbeat", "HEARTBEAT"),
        ("MAX_TOPIC", "MAX_TOPICS"),
        ("history", "HISTORY"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(settings: DjangoSettings, key: str, meant: str) -> None:
    """A slip of the finger is named, with what was probably meant."""
    assert refused(settings, {key: 1}) == f"DJANGO_SSE has the unknown key {key!r}: did you mean {meant!r}?"


@pytest.mark.parametrize("key", ["EVENTSTREAM_STORAGE_CLASS", "", 5, None])
def test_an_unknown_key_lists_the_known(settings: DjangoSettings, key: Any) -> None:
    """Where nothing is near, every key is."""
    told = refused(settings, {key: 1})

    assert f"unknown key {key!r}: the keys are CHANNEL_LAYER, GROUP_PREFIX, " in told
    assert all(known.name in told for known in fields(Settings))


@pytest.mark.parametrize("value", [None, [], "HEARTBEAT", 5])
def test_the_settings_are_a_dict(settings: DjangoSettings, value: Any) -> None:
    """Anything else is refused."""
    assert refused(settings, value) == f"DJANGO_SSE is {value!r}: it must be a dict"


SECONDS = "it must be a number of seconds above 0"
COUNT = "it must be a whole number above 0"
LIMIT = "it must be a whole number above 0, or None"
WRONG_VALUES: dict[tuple[str, str], list[Any]] = {
    ("HEARTBEAT", SECONDS): [0, -1, "15", None, True, float("nan"), float("inf")],
    ("RETRY", SECONDS): [0, "3"],
    ("CHECK", SECONDS): [0, "5"],
    ("RECHECK", "it must be a number of seconds above 0, or None"): [0, -1, "60", True],
    ("MAX_AGE", SECONDS): [0, None],
    ("MAX_STREAMS", LIMIT): [0, -1, 1.5, "1", True],
    ("MAX_STREAMS_PER_USER", LIMIT): [0, -1, 1.5, "1", True],
    ("MAX_PENDING", COUNT): [0, -1, 1.5, "1", None, True],
    ("MAX_EVENT", COUNT): [0, None],
    (
        "MAX_TOPICS",
        "a whole number from 1 to 110: the cursor of more topics would not fit in a header",
    ): [0, 1.5, "1", True, MAX_CURSOR_TOPICS + 1],
    ("ALLOWED_ORIGINS", "it must be a list of origins such as 'https://www.example.com', without a path"): [
        "https://www.example.com",
        ["*"],
        ["null"],
        ["www.example.com"],
        ["https://www.example.com/"],
        ["https://WWW.example.com"],
        ["https://www.example.com\n"],
        [b"https://www.example.com"],
        None,
    ],
    ("OUTBOX", "True or False"): [0, 1, None, "yes"],
    ("RENDER_MARGIN", "a number of seconds, 0 or more"): [-0.1, "2", None, False],
    (
        "GROUP_PREFIX",
        "1 to 40 ASCII letters, digits, '-', '_' or '.'",
    ): ["", "x" * 41, "a b", "é", "a:b", "sse\n", None, 5],
    ("CHANNEL_LAYER", "an alias of CHANNEL_LAYERS"): ["", "missing", None, 5, ["default"]],
    (
        "HISTORY",
        "None or {'BACKEND': dotted path, 'OPTIONS': {...}}",
    ): ["memory", {}, {"BACKEND": None}, {"BACKEND": "x", "OPTIONS": 1}, {"BACKEND": "x", "LENGTH": 5}],
    (
        "JSON_ENCODER",
        "a subclass of json.JSONEncoder, or its dotted path",
    ): [None, 5, JSONEncoder(), dict, "json.dumps", "builtins.dict"],
}
WRONG = [(key, value, wanted) for (key, wanted), values in WRONG_VALUES.items() for value in values]


@pytest.mark.parametrize(("key", "value", "wanted"), WRONG)
def test_wrong_values_are_refused(settings: DjangoSettings, key: str, value: Any, wanted: str) -> None:
    """The error names the key, the value, and what it must be."""
    told = refused(settings, {key: value})

    assert told.startswith(f"DJANGO_SSE[{key!r}] is ")
    assert told.endswith(wanted)


def test_a_wrong_history_is_shown_without_its_secrets(settings: DjangoSettings) -> None:
    """The options of a history may hold a password, which belongs in no error page."""
    told = refused(settings, {"HISTORY": {"BACKEND": "x", "OPTION": {"url": "redis://:secret@host"}}})

    assert "['BACKEND', 'OPTION']" in told
    assert "secret" not in told


def test_every_key_refuses_something() -> None:
    """No key takes whatever it is given."""
    assert {key for key, _, _ in WRONG} == {key.name for key in fields(Settings)}


def test_as_many_topics_as_a_cursor_holds(settings: DjangoSettings) -> None:
    """The largest number of topics is the one whose cursor still fits."""
    settings.DJANGO_SSE = {"MAX_TOPICS": MAX_CURSOR_TOPICS}

    assert get_settings().MAX_TOPICS == 110


def test_a_layer_is_named_by_its_alias(settings: DjangoSettings) -> None:
    """Any layer of the project may wake the others; the default one need not exist."""
    settings.CHANNEL_LAYERS = {"live": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.DJANGO_SSE = {"CHANNEL_LAYER": "live"}
    assert get_settings().CHANNEL_LAYER == "live"

    settings.DJANGO_SSE = {"CHANNEL_LAYER": "default"}
    assert get_settings().CHANNEL_LAYER == "default"


@pytest.mark.parametrize("value", [Encoder, f"{__name__}.Encoder"])
def test_an_encoder_is_a_class_or_its_path(settings: DjangoSettings, value: Any) -> None:
    """Either way the setting holds the class."""
    settings.DJANGO_SSE = {"JSON_ENCODER": value}

    assert get_settings().JSON_ENCODER is Encoder


@pytest.mark.parametrize("path", ["nowhere.Encoder", "json.NoSuchEncoder", "Encoder", ""])
def test_an_encoder_that_cannot_be_imported_is_refused(settings: DjangoSettings, path: str) -> None:
    """The error names the path, and why."""
    told = refused(settings, {"JSON_ENCODER": path})

    assert re.match(rf"DJANGO_SSE\['JSON_ENCODER'\] {path!r} cannot be imported: .+", told)


def test_a_mended_setting_works(settings: DjangoSettings) -> None:
    """An error is not remembered."""
    refused(settings, {"CHECK": 0})

    settings.DJANGO_SSE = {"CHECK": 1}

    assert get_settings().CHECK == 1
