"""Which classes tell which models."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db.models import ManyToManyField, Model

from django_sse.fragments import SWAPS
from django_sse.model_events import signals
from django_sse.model_events.base import ACTIONS, ModelEvents, Teller

_registered: list[Teller] = []

_Events = TypeVar("_Events", bound="type[ModelEvents]")


def register(*models: type[Model]) -> Callable[[_Events], _Events]:
    """Register a `ModelEvents` class for models; raise ImproperlyConfigured where it cannot work."""

    def connect(events: _Events) -> _Events:
        _check(events)
        _check_template(events)
        for model in models:
            _check_fields(events, model)
            teller = next((one for one in _registered if _is(one, model, events)), None)
            if teller is None:
                teller = Teller(model, events())
                _registered.append(teller)
            signals.connect(teller)
        return events

    return connect


def registered() -> tuple[tuple[type[Model], type[ModelEvents]], ...]:
    """Return which models tell their events, and by what, in the order in which they were registered."""
    return tuple((teller.model, type(teller.events)) for teller in _registered)


def tellers_of(model: type[Model]) -> list[Teller]:
    """Return what is registered for this very model."""
    return [teller for teller in _registered if teller.model is model]


def _is(teller: Teller, model: type[Model], events: type[ModelEvents]) -> bool:
    return teller.model is model and type(teller.events) is events


def _check(events: type[ModelEvents]) -> None:
    if events.to is ModelEvents.to:
        msg = f"{events.__qualname__} does not define to(): nobody would hear its events"
        raise ImproperlyConfigured(msg)
    unknown = [action for action in events.actions if action not in ACTIONS]
    if unknown:
        msg = f"{events.__qualname__}.actions has {unknown!r}: choose from {', '.join(ACTIONS)}"
        raise ImproperlyConfigured(msg)


def _check_template(events: type[ModelEvents]) -> None:
    if events.template is not None and not (events.target.strip() and events.swap in SWAPS):
        msg = (
            f"{events.__qualname__}.template needs a target, a CSS selector such as '#orders', and a swap of "
            f"{', '.join(SWAPS)}"
        )
        raise ImproperlyConfigured(msg)


def _check_fields(events: type[ModelEvents], model: type[Model]) -> None:
    for name in events.fields:
        field = model._meta.get_field(name)  # raises FieldDoesNotExist, which names both
        if not _is_column(field):
            msg = f"{events.__qualname__}.fields: {name!r} is no column; override data() for it"
            raise ImproperlyConfigured(msg)
    for name in events.when_changed or ():
        if not _is_column(_field(events, "when_changed", model, name)):
            msg = f"{events.__qualname__}.when_changed: {name!r} is no column of {model._meta.label}"
            raise ImproperlyConfigured(msg)
    for name in events.many_to_many:
        if not isinstance(_field(events, "many_to_many", model, name), ManyToManyField):
            msg = f"{events.__qualname__}.many_to_many: {name!r} is no ManyToManyField of {model._meta.label}"
            raise ImproperlyConfigured(msg)


def _field(events: type[ModelEvents], attribute: str, model: type[Model], name: str) -> object:
    try:
        return model._meta.get_field(name)
    except FieldDoesNotExist as error:
        msg = f"{events.__qualname__}.{attribute}: {model._meta.label} has no field {name!r}"
        raise ImproperlyConfigured(msg) from error


def _is_column(field: Any) -> bool:
    return field.concrete and not field.many_to_many
