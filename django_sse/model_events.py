"""Saves and deletes of models as events."""

import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.db.models.signals import post_delete, post_save

from django_sse.exceptions import HistoryError
from django_sse.history import get_history
from django_sse.publishing import Recipients, send_event

logger = logging.getLogger(__name__)

ACTIONS = ("created", "updated", "deleted")

_registered: list[tuple[type[Model], type["ModelEvents"]]] = []

_Events = TypeVar("_Events", bound="type[ModelEvents]")


class ModelEvents:
    """What a model's saves and deletes tell, and whom.

    Subclass it in an app's ``sse.py`` and `register` it; define at least `to`. The events are sent after the
    commit. ``bulk_create``, ``bulk_update`` and ``QuerySet.update()`` send no signals, and so no events.
    """

    #: What the payload carries beside ``pk``.
    fields: ClassVar[Sequence[str]] = ()
    #: Which of created, updated and deleted are told.
    actions: ClassVar[Collection[str]] = ACTIONS

    def to(self, instance: Any) -> Recipients:
        """Return a topic, a user, or an iterable of these."""
        msg = f"{type(self).__qualname__} must define to()"
        raise NotImplementedError(msg)

    def event_name(self, instance: Any, action: str) -> str:
        """Return ``<model>-<action>``."""
        return f"{instance._meta.model_name}-{action}"

    def data(self, instance: Any, action: str) -> object:  # noqa: ARG002
        """Return the payload: ``pk`` and the fields."""
        return {"pk": instance.pk} | {name: _value(instance, name) for name in self.fields}


def register(*models: type[Model]) -> Callable[[_Events], _Events]:
    """Register a `ModelEvents` class for models; raise ImproperlyConfigured where it cannot work."""

    def connect(events: _Events) -> _Events:
        if events.to is ModelEvents.to:
            msg = f"{events.__qualname__} does not define to(): nobody would hear its events"
            raise ImproperlyConfigured(msg)
        unknown = [action for action in events.actions if action not in ACTIONS]
        if unknown:
            msg = f"{events.__qualname__}.actions has {unknown!r}: choose from {', '.join(ACTIONS)}"
            raise ImproperlyConfigured(msg)
        for model in models:
            for name in events.fields:
                field = model._meta.get_field(name)  # raises FieldDoesNotExist, which names both
                if not field.concrete or field.many_to_many:
                    msg = f"{events.__qualname__}.fields: {name!r} is no column; override data() for it"
                    raise ImproperlyConfigured(msg)
            if (model, events) not in _registered:
                _registered.append((model, events))
            told = events()
            uid = f"django_sse.{events.__module__}.{events.__qualname__}.{model._meta.label}"
            # Signals keep weak references: nobody else holds these.
            post_save.connect(partial(_saved, told), sender=model, weak=False, dispatch_uid=uid)
            post_delete.connect(partial(_deleted, told), sender=model, weak=False, dispatch_uid=uid)
        return events

    return connect


def registered() -> tuple[tuple[type[Model], type[ModelEvents]], ...]:
    """Return which models tell their events, and by what, in the order in which they were registered."""
    return tuple(_registered)


def _value(instance: Model, name: str) -> object:
    field = instance._meta.get_field(name)
    # A foreign key is told as its key: following it would be a query for each save.
    return getattr(instance, getattr(field, "attname", name))


def _saved(
    events: ModelEvents,
    *,
    instance: Model,
    created: bool,
    using: str,
    raw: bool = False,
    **_: object,
) -> None:
    if not raw:  # a fixture is being loaded: other rows may still be missing
        _send(events, instance, "created" if created else "updated", using)


def _deleted(events: ModelEvents, *, instance: Model, using: str, **_: object) -> None:
    _send(events, instance, "deleted", using)


def _send(events: ModelEvents, instance: Model, action: str, using: str) -> None:
    if action not in events.actions:
        return
    label, pk = instance._meta.label, instance.pk
    try:
        version = _version(label, pk)
        send_event(
            events.to(instance),
            events.event_name(instance, action),
            events.data(instance, action),
            using=using,
            key=None if version is None else f"{label}.{pk}",
            version=version,
        )
    except Exception:
        # The project's own code, in the middle of a save that must not fail for it.
        logger.exception("The %s event of %s with pk %s was not sent", action, label, pk)


def _version(label: str, pk: object) -> int | None:
    # Drawn after the write, while the row is locked, so that versions follow the order of the commits.
    try:
        return get_history().next_version()
    except HistoryError:
        logger.exception("An event of %s with pk %s goes unversioned", label, pk)
        return None
