"""System checks: what would fail, or lose events, is said when a project starts.

Each has an id, which `SILENCED_SYSTEM_CHECKS` may name; the reference explains them all.
"""

from collections import Counter
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from channels.exceptions import InvalidChannelLayerError
from channels.layers import BaseChannelLayer, get_channel_layer
from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (Django's name)
from django.core.exceptions import ImproperlyConfigured

from django_sse.access import rules
from django_sse.conf import get_settings, has_asgi_application
from django_sse.history import get_history
from django_sse.model_events import registered

#: Messages that a layer of `channels_redis.core` should keep for one process: a burst, not a second's worth.
_CAPACITY: Final = 1000
#: From this major version on redis-py has a timeout of its own, which ends the layer's blocking reads.
_TIMING_REDIS: Final = 8
#: Seconds after which a read of such a layer ends by itself, and begins anew.
_READ: Final = 5


def check_settings(**_: object) -> list[CheckMessage]:
    """Find unknown and wrong settings, and a history that cannot work with the layer."""
    try:
        get_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See the reference of settings.", id="django_sse.E001")]
    try:
        get_history()
    except (ImproperlyConfigured, InvalidChannelLayerError) as error:
        hint = "See HISTORY and CHANNEL_LAYER in the reference of settings."
        return [Error(str(error), hint=hint, id="django_sse.E002")]
    return []


def check_server(**_: object) -> list[CheckMessage]:
    """Find what serves pages but no streams, or streams but no script."""
    found: list[CheckMessage] = []
    if not (has_asgi_application() or apps.is_installed("daphne")):
        msg = "This project looks as if WSGI alone served it, and WSGI cannot serve event streams."
        hint = (
            "Set ASGI_APPLICATION, and put 'daphne' on top of INSTALLED_APPS so that runserver uses it. "
            "Where another ASGI server always serves the project, silence this check."
        )
        found.append(Warning(msg, hint=hint, id="django_sse.W001"))
    if not apps.is_installed("django.contrib.staticfiles"):
        msg = "'django.contrib.staticfiles' is not installed, so nothing collects or serves the script."
        hint = "Add it to INSTALLED_APPS; or serve django_sse/static yourself, and silence this check."
        found.append(Warning(msg, hint=hint, id="django_sse.W002"))
    return found


def check_layer(**_: object) -> list[CheckMessage]:
    """Find a layer of channels_redis that gives up waiting, or keeps too few messages."""
    layer = _core_layer()
    if layer is None:
        return []
    found: list[CheckMessage] = []
    if _redis_version() >= _TIMING_REDIS and not all(_has_timeout(host) for host in layer.hosts):
        msg = "redis-py 8 ends each read of the channel layer after 5 seconds of silence."
        hint = (
            "Name hosts in CHANNEL_LAYERS as dicts with a longer timeout of their own: "
            "{'address': 'redis://...', 'socket_timeout': 30}; or use channels_redis.pubsub."
        )
        found.append(Warning(msg, hint=hint, id="django_sse.W003"))
    if layer.capacity < _CAPACITY:
        msg = (
            f"The channel layer keeps {layer.capacity} messages for a process, and drops what is above: "
            "their events arrive only with the next tail check."
        )
        hint = f"Set 'capacity': {_CAPACITY} or more in its CONFIG, or use channels_redis.pubsub."
        found.append(Warning(msg, hint=hint, id="django_sse.W004"))
    return found


def check_registrations(**_: object) -> list[CheckMessage]:
    """Find what is registered twice, of which one may be forgotten, or from a copy."""
    found: list[CheckMessage] = []
    patterns = Counter(rule.pattern for rule in rules())
    for pattern in [pattern for pattern, count in patterns.items() if count > 1]:
        msg = f"Several topic rules are registered for {pattern!r}, and the yes of any of them is enough."
        hint = "Keep one function that decides. `manage.py sse_topics` shows where they are."
        found.append(Warning(msg, hint=hint, id="django_sse.W006"))
    tellers = Counter((model, action) for model, events in registered() for action in events.actions)
    for model in dict.fromkeys(model for (model, _), count in tellers.items() if count > 1):
        msg = f"Several ModelEvents classes tell the same saves or deletes of {model._meta.label}."
        hint = "Let one class name all recipients in its to(). Where several are meant, silence this check."
        found.append(Warning(msg, hint=hint, id="django_sse.W007"))
    return found


def check_deployment(**_: object) -> list[CheckMessage]:
    """Find a history that one process has for itself."""
    if check_settings() or get_history().shared:
        return []
    msg = "Events are kept in the memory of one process: no other one, no worker and no shell can send any."
    hint = (
        "Right for a site of one process. For several use channels_redis in CHANNEL_LAYERS, whose Redis then "
        "keeps the history too, or a history in the database: see HISTORY in the reference of settings."
    )
    return [Warning(msg, hint=hint, id="django_sse.W005")]


def _core_layer() -> Any:
    try:
        layer: BaseChannelLayer | None = get_channel_layer(get_settings().CHANNEL_LAYER)
    except (ImproperlyConfigured, InvalidChannelLayerError):  # E001 and E002 say so
        return None
    is_core = any(kind.__module__ == "channels_redis.core" for kind in type(layer).__mro__)
    return layer if is_core else None


def _redis_version() -> int:
    from redis import VERSION  # noqa: PLC0415  (an extra, which such a layer needs)

    return int(VERSION[0])


def _has_timeout(host: dict[str, Any]) -> bool:
    """Tell whether a host's reads may last longer than those of the layer, which end by themselves."""
    named = parse_qs(urlsplit(str(host.get("address", ""))).query).get("socket_timeout")
    if "socket_timeout" not in host and named is None:
        return False
    timeout = host["socket_timeout"] if named is None else float(named[0])
    return timeout is None or timeout > _READ


def register_all() -> None:
    """Make Django run them: with every command, and the last one with ``check --deploy``."""
    for check in (check_settings, check_server, check_layer, check_registrations):
        register(check, "django_sse")
    register(check_deployment, "django_sse", deploy=True)
