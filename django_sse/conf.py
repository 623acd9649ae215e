"""The project's settings.

The only reader of ``django.conf.settings``: everything else asks `get_settings`.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from json import JSONEncoder
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_sse.positions import MAX_CURSOR_TOPICS

NAME = "DJANGO_SSE"
#: The Django settings that decide what this module or the history reads.
RELEVANT = frozenset({NAME, "CHANNEL_LAYERS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One frozen value; its fields are the keys of ``DJANGO_SSE``. Durations are in seconds."""

    #: Alias of the Channels layer that wakes the other processes.
    CHANNEL_LAYER: str = "default"
    #: What the names of this project's groups start with.
    GROUP_PREFIX: str = "sse"
    #: None follows the layer; or ``{"BACKEND": dotted path, "OPTIONS": {...}}``.
    HISTORY: Mapping[str, Any] | None = None
    #: The longest silence of a stream.
    HEARTBEAT: float = 15.0
    #: After what a browser reconnects; spread by a quarter, so that not all come at once.
    RETRY: float = 3.0
    #: Between two tail checks: what bounds staleness when the layer is dead.
    CHECK: float = 5.0
    #: Between two times that stores are asked whether users may keep their streams; None asks never.
    RECHECK: float | None = 60.0
    #: The longest life of one stream; the browser then comes back by itself.
    MAX_AGE: float = 3600.0
    #: Topics of one stream.
    MAX_TOPICS: int = 32
    #: Streams of one process, and of one user in it; None sets no limit.
    MAX_STREAMS: int | None = None
    MAX_STREAMS_PER_USER: int | None = 32
    #: Bytes that wait for one slow client before it is sent to the history.
    MAX_PENDING: int = 1_048_576
    #: Bytes of one event.
    MAX_EVENT: int = 1_048_576
    #: How far a page's cursor reaches back before its request began.
    RENDER_MARGIN: float = 2.0
    #: Other sites whose pages may follow streams, with credentials: ``"https://www.example.com"``.
    ALLOWED_ORIGINS: Collection[str] = ()
    #: Whether events that are sent in a transaction are written in it; with a history in the database.
    OUTBOX: bool = False
    #: What encodes ``data``.
    JSON_ENCODER: type[JSONEncoder] = DjangoJSONEncoder


_KEYS = tuple(field.name for field in fields(Settings))
#: As browsers write it (RFC 6454, 6.2): no path, no slash at the end; never "null", which is anybody's.
_ORIGIN = re.compile(r"https?://[a-z0-9.\-_]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
_GROUP_PREFIX = re.compile(r"[A-Za-z0-9\-_.]{1,40}")


@cache
def get_settings() -> Settings:
    """Return the project's settings; raise ImproperlyConfigured for an unknown key or a wrong value."""
    given = getattr(django_settings, NAME, {})
    if not isinstance(given, Mapping):
        msg = f"{NAME} is {given!r}: it must be a dict"
        raise ImproperlyConfigured(msg)
    return Settings(**{key: _value(key, value) for key, value in given.items()})


def has_asgi_application() -> bool:
    """Tell whether the project names what an ASGI server serves."""
    return bool(getattr(django_settings, "ASGI_APPLICATION", None))


def _value(key: str, value: object) -> Any:
    if key not in _KEYS:
        near = get_close_matches(str(key).upper(), _KEYS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(_KEYS)}"
        msg = f"{NAME} has the unknown key {key!r}: {hint}"
        raise ImproperlyConfigured(msg)
    if key == "JSON_ENCODER":
        return _encoder(value)
    is_right, wanted = _RULES[key]
    if not is_right(value):
        raise _wrong(key, value, wanted)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_seconds(value: object) -> bool:
    return _is_number(value) and value != 0


def _is_seconds_or_none(value: object) -> bool:
    return value is None or _is_seconds(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_limit(value: object) -> bool:
    return value is None or _is_count(value)


def _is_topic_count(value: object) -> bool:
    return _is_count(value) and value in range(MAX_CURSOR_TOPICS + 1)


def _is_layer(value: object) -> bool:
    # A mistyped alias would mean no layer at all, and so a history that other processes do not share.
    return value == "default" or (
        isinstance(value, str) and value in getattr(django_settings, "CHANNEL_LAYERS", {})
    )


def _is_origins(value: object) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str)
        and all(isinstance(one, str) and _ORIGIN.fullmatch(one) is not None for one in value)
    )


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_group_prefix(value: object) -> bool:
    return isinstance(value, str) and _GROUP_PREFIX.fullmatch(value) is not None


def _is_history(value: object) -> bool:
    return value is None or (
        isinstance(value, Mapping)
        and isinstance(value.get("BACKEND"), str)
        and isinstance(value.get("OPTIONS", {}), Mapping)
        and set(value) <= {"BACKEND", "OPTIONS"}
    )


_SECONDS = (_is_seconds, "a number of seconds above 0")
_COUNT = (_is_count, "a whole number above 0")
_LIMIT = (_is_limit, "a whole number above 0, or None")
#: What each value must be; JSON_ENCODER has its own way.
_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "CHANNEL_LAYER": (_is_layer, "an alias of CHANNEL_LAYERS"),
    "GROUP_PREFIX": (_is_group_prefix, "1 to 40 ASCII letters, digits, '-', '_' or '.'"),
    "HISTORY": (_is_history, "None or {'BACKEND': dotted path, 'OPTIONS': {...}}"),
    "HEARTBEAT": _SECONDS,
    "RETRY": _SECONDS,
    "CHECK": _SECONDS,
    "RECHECK": (_is_seconds_or_none, "a number of seconds above 0, or None"),
    "MAX_AGE": _SECONDS,
    "MAX_TOPICS": (
        _is_topic_count,
        f"a whole number from 1 to {MAX_CURSOR_TOPICS}: the cursor of more topics would not fit in a header",
    ),
    "MAX_STREAMS": _LIMIT,
    "MAX_STREAMS_PER_USER": _LIMIT,
    "MAX_PENDING": _COUNT,
    "MAX_EVENT": _COUNT,
    "ALLOWED_ORIGINS": (_is_origins, "a list of origins such as 'https://www.example.com', without a path"),
    "OUTBOX": (_is_bool, "True or False"),
    "RENDER_MARGIN": (_is_number, "a number of seconds, 0 or more"),
}


def _encoder(value: object) -> type[JSONEncoder]:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as error:
            msg = f"{NAME}['JSON_ENCODER'] {value!r} cannot be imported: {error}"
            raise ImproperlyConfigured(msg) from error
    if not (isinstance(value, type) and issubclass(value, JSONEncoder)):
        raise _wrong("JSON_ENCODER", value, "a subclass of json.JSONEncoder, or its dotted path")
    return value


def _wrong(key: str, value: object, wanted: str) -> ImproperlyConfigured:
    # The keys of a dict alone: its values may hold a password.
    shown = f"a dict with the keys {sorted(map(str, value))}" if isinstance(value, Mapping) else repr(value)
    return ImproperlyConfigured(f"{NAME}[{key!r}] is {shown}: it must be {wanted}")


def _forget(*, setting: str, **_: object) -> None:
    if setting in RELEVANT:
        get_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_sse.conf")
