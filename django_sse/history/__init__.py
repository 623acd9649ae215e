"""The history that the project's settings choose."""

from threading import Lock
from typing import Any

from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_sse.conf import NAME, RELEVANT, get_settings
from django_sse.forks import after_fork
from django_sse.history.base import BaseHistory, BaseOutbox, Gone, Page
from django_sse.history.memory import MemoryHistory

__all__ = ["BaseHistory", "BaseOutbox", "Gone", "MemoryHistory", "Page", "get_history"]

#: The history of projects whose layer reaches other processes, and is no Redis.
DATABASE = "django_sse.history.database.DatabaseHistory"
#: The history of projects whose layer is channels_redis; imported when it is chosen.
REDIS = "django_sse.history.redis.RedisHistory"
OPTIONS = f"{NAME}['HISTORY']['OPTIONS']"

_lock = Lock()
_chosen: BaseHistory | None = None


def get_history() -> BaseHistory:
    """Return this process's history, made at the first call.

    Raises ImproperlyConfigured where the settings name none that works with the channel layer: under
    a layer that other processes share, a history in memory would lose events silently.
    """
    global _chosen  # noqa: PLW0603  (one history per process)
    if _chosen is None:
        with _lock:
            if _chosen is None:
                _chosen = _choose()
    return _chosen


def _choose() -> BaseHistory:
    settings = get_settings()
    layer = get_channel_layer(settings.CHANNEL_LAYER)
    local = layer is None or isinstance(layer, InMemoryChannelLayer)
    if settings.HISTORY is not None:
        history = _build(
            settings.HISTORY["BACKEND"], dict(settings.HISTORY.get("OPTIONS", {})), where=OPTIONS
        )
    elif local:
        history = MemoryHistory()
    elif type(layer).__module__.partition(".")[0] == "channels_redis":
        # Beside the layer's own keys, not under its prefix: the layer's flush() deletes those.
        config = channel_layers.configs[settings.CHANNEL_LAYER].get("CONFIG", {})
        prefix = f"{settings.GROUP_PREFIX}:{config.get('prefix', 'asgi')}"
        where = f"CHANNEL_LAYERS[{settings.CHANNEL_LAYER!r}]['CONFIG']"
        history = _build(REDIS, {"hosts": config.get("hosts"), "prefix": prefix}, where=where)
    else:
        history = _build(DATABASE, {}, where=OPTIONS)
    if not (local or history.shared):
        found = f"{type(layer).__module__}.{type(layer).__qualname__}"
        msg = (
            f"CHANNEL_LAYERS[{settings.CHANNEL_LAYER!r}] is {found}, which several processes share, so "
            "their events need a history that they share too. Use channels_redis, whose Redis then keeps it, "
            f"or name a shared one in {NAME}['HISTORY'], or serve from one process with "
            '"BACKEND": "channels.layers.InMemoryChannelLayer" (or give it a layer of its own: '
            f"{NAME} = {{'CHANNEL_LAYER': 'sse'}})."
        )
        raise ImproperlyConfigured(msg)
    if settings.OUTBOX and history.outbox is None:
        msg = (
            f"{NAME}['OUTBOX'] is True, and the history is {type(history).__qualname__}, which no "
            f"transaction of yours reaches: set {NAME}['HISTORY'] = {{'BACKEND': {DATABASE!r}}}, or leave "
            "the outbox away"
        )
        raise ImproperlyConfigured(msg)
    return history


def _build(path: str, options: dict[str, Any], *, where: str) -> BaseHistory:
    try:
        backend = import_string(path)
    except ImportError as error:
        msg = f"{NAME}['HISTORY']['BACKEND'] {path!r} cannot be imported: {error}"
        raise ImproperlyConfigured(msg) from error
    if not (isinstance(backend, type) and issubclass(backend, BaseHistory)):
        msg = f"{NAME}['HISTORY']['BACKEND'] {path!r} is not a history: name a subclass of BaseHistory"
        raise ImproperlyConfigured(msg)
    try:
        return backend(**options)
    except (TypeError, ValueError) as error:
        # Their names alone: the values may hold a password.
        msg = f"{where} ({', '.join(map(str, options))}) do not fit {path}: {error}"
        raise ImproperlyConfigured(msg) from error


def _forget(*, setting: str, **_: object) -> None:
    global _chosen  # noqa: PLW0603
    if setting in RELEVANT:
        _chosen = None


def _after_fork() -> None:
    # The parent's lock may have been held, and two processes must not continue one log in memory.
    global _lock, _chosen
    _lock, _chosen = Lock(), None


after_fork(_after_fork)
setting_changed.connect(_forget, dispatch_uid="django_sse.history")
