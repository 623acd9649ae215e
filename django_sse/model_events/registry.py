"""What a project declares of its models' events."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db.models import Model

from django_sse.fragments import SWAPS
from django_sse.publishing import Recipients

ACTIONS = ("created", "updated", "deleted")

_registered: list[tuple[type[Model], type["ModelEvents"]]] = []


class ModelEvents:
    """What a model's saves and deletes tell, and whom.

    Subclass it in an app's ``sse.py`` and `register` it; define at least `to`. The events are sent after the
    commit; those of one row in one transaction are one event. ``bulk_create``, ``bulk_update`` and
    ``QuerySet.update()`` send no signals, and so no events: see `publish_queryset`.
    """

    #: What the payload carries beside ``pk``.
    fields: ClassVar[Sequence[str]] = ()
    #: Which of created, updated and deleted are told.
    actions: ClassVar[Collection[str]] = ACTIONS
    #: Updates are told only where one of these fields changed; None tells them all.
    when_changed: ClassVar[Collection[str] | None] = None
    #: Many-to-many fields whose changes are told as updates; the payload carries their primary keys, sorted.
    many_to_many: ClassVar[Sequence[str]] = ()
    #: A template for the row: the event is then a fragment, which pages need no script of their own for.
    template: ClassVar[str | None] = None
    #: Where fragments go, a CSS selector, and how; the template's outermost element has `element_id` as id.
    target: ClassVar[str] = ""
    swap: ClassVar[str] = "append"

    def to(self, instance: Any) -> Recipients:
        """Return a topic, a user, or an iterable of these."""
        msg = f"{type(self).__qualname__} must define to()"
        raise NotImplementedError(msg)

    def event_name(self, instance: Any, action: str) -> str:
        """Return ``<model>-<action>``."""
        return f"{instance._meta.model_name}-{action}"

    def data(self, instance: Any, action: str) -> object:  # noqa: ARG002
        """Return the payload: ``pk``, the fields, and those many-to-many ones that are told."""
        found = {"pk": instance.pk} | {name: _value(instance, name) for name in self.fields}
        if instance.pk is not None:
            found |= {name: _keys(instance, name) for name in self.many_to_many}
        return found

    def context(self, instance: Any, action: str) -> Mapping[str, Any]:
        """Return what the template is rendered with: ``object``, the same by the model's name, ``action``."""
        return {"object": instance, instance._meta.model_name: instance, "action": action}

    def element_id(self, instance: Any) -> str:
        """Return the id of the row's element in pages, ``<model>-<pk>``."""
        return f"{instance._meta.model_name}-{instance.pk}"


def add(model: type[Model], events: type[ModelEvents]) -> None:
    """Remember a class that tells of a model; raise ImproperlyConfigured where it cannot work."""
    name = events.__qualname__
    if events.to is ModelEvents.to:
        msg = f"{name} does not define to(): nobody would hear its events"
        raise ImproperlyConfigured(msg)
    unknown = [action for action in events.actions if action not in ACTIONS]
    if unknown:
        msg = f"{name}.actions has {unknown!r}: choose from {', '.join(ACTIONS)}"
        raise ImproperlyConfigured(msg)
    for field in events.fields:
        found = model._meta.get_field(field)  # raises FieldDoesNotExist, which names both
        if not found.concrete or found.many_to_many:
            msg = f"{name}.fields: {field!r} is no column; override data() for it"
            raise ImproperlyConfigured(msg)
    if events.template is not None and (not events.target or events.swap not in SWAPS):
        msg = f"{name}.template needs a target, a CSS selector, and a swap of {', '.join(SWAPS)}"
        raise ImproperlyConfigured(msg)
    _check_names(model, events)
    if (model, events) not in _registered:
        _registered.append((model, events))


def _check_names(model: type[Model], events: type[ModelEvents]) -> None:
    for attribute, wanted in (("when_changed", False), ("many_to_many", True)):
        names = getattr(events, attribute) or ()
        if isinstance(names, str):
            msg = f"{events.__qualname__}.{attribute} is {names!r}: it must be a list of names"
            raise ImproperlyConfigured(msg)
        for name in names:
            try:
                field = model._meta.get_field(name)
            except FieldDoesNotExist as error:
                msg = f"{events.__qualname__}.{attribute}: {error}"
                raise ImproperlyConfigured(msg) from error
            if field.auto_created or bool(field.many_to_many) != wanted or not (wanted or field.concrete):
                kind = "many-to-many field" if wanted else "column"
                msg = f"{events.__qualname__}.{attribute}: {name!r} is no {kind} of {model._meta.label}"
                raise ImproperlyConfigured(msg)


def registered() -> tuple[tuple[type[Model], type[ModelEvents]], ...]:
    """Return which models tell their events, and by what, in the order in which they were registered."""
    return tuple(_registered)


def _value(instance: Model, name: str) -> object:
    field = instance._meta.get_field(name)
    # A foreign key is told as its key: following it would be a query for each save.
    return getattr(instance, getattr(field, "attname", name))


def _keys(instance: Model, name: str) -> list[object]:
    return sorted(getattr(instance, name).values_list("pk", flat=True))
