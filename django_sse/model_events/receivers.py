"""Hearing Django's signals of the models that are registered."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, TypeVar

from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

from django_sse.commits import is_in_transaction, latest_of
from django_sse.model_events import many_to_many
from django_sse.model_events.muting import is_muted
from django_sse.model_events.registry import ModelEvents, add
from django_sse.model_events.rows import is_open, lock, rows_of
from django_sse.model_events.telling import row_of, tell

_Events = TypeVar("_Events", bound="type[ModelEvents]")

#: Where an instance has, between two signals, what its row was.
_BEFORE: Final = "_django_sse_before"


def register(*models: type[Model]) -> Callable[[_Events], _Events]:
    """Register a `ModelEvents` class for models; raise ImproperlyConfigured where it cannot work."""

    def connect(events: _Events) -> _Events:
        for model in models:
            add(model, events)
            _connect(model, events())
        return events

    return connect


def _connect(model: type[Model], events: ModelEvents) -> None:
    kind = type(events)
    uid = f"django_sse.{kind.__module__}.{kind.__qualname__}.{model._meta.label}"
    # Signals keep weak references: nobody else holds these.
    if kind.when_changed is not None:
        pre_save.connect(partial(_saving, events), sender=model, weak=False, dispatch_uid=uid)
    post_save.connect(partial(_saved, events), sender=model, weak=False, dispatch_uid=uid)
    post_delete.connect(partial(_deleted, events), sender=model, weak=False, dispatch_uid=uid)
    for name in kind.many_to_many:
        receiver = partial(many_to_many.changed, events, model)
        through: Any = model._meta.get_field(name).remote_field
        m2m_changed.connect(receiver, sender=through.through, weak=False, dispatch_uid=f"{uid}.{name}")


def _saving(events: ModelEvents, *, instance: Model, using: str, raw: bool = False, **_: object) -> None:
    if raw or instance.pk is None or is_muted(type(instance)):
        return
    fields: list[Any] = [instance._meta.get_field(name) for name in events.when_changed or ()]
    rows = rows_of(instance, using)
    values = (lock(rows) if is_open(using) else rows).values(*[field.attname for field in fields]).first()
    instance.__dict__.setdefault(_BEFORE, {})[type(events)] = values


def _saved(
    events: ModelEvents,
    *,
    instance: Model,
    created: bool,
    using: str,
    raw: bool = False,
    update_fields: Collection[str] | None = None,
    **_: object,
) -> None:
    before = instance.__dict__.get(_BEFORE, {}).pop(type(events), None)
    if raw or is_muted(type(instance)):  # a fixture is being loaded: other rows may still be missing
        return
    if before is not None and not created and not _is_changed(events, instance, before, update_fields):
        is_told = is_in_transaction(using) and latest_of(row_of(events, instance), using) is not None
        if not is_told:  # else this is the last state of what the transaction tells anyway
            return
    # What the statement did not write, or the database computed, is not in the instance.
    is_partial = update_fields is not None or any(
        hasattr(instance.__dict__.get(field.attname), "resolve_expression")
        for field in instance._meta.concrete_fields
    )
    tell(events, instance, "created" if created else "updated", using, is_partial=is_partial)


def _deleted(events: ModelEvents, *, instance: Model, using: str, **_: object) -> None:
    if not is_muted(type(instance)):
        tell(events, instance, "deleted", using)


def _is_changed(
    events: ModelEvents, instance: Model, before: dict[str, Any], written: Collection[str] | None
) -> bool:
    for name in events.when_changed or ():
        field: Any = instance._meta.get_field(name)
        if written is not None and field.name not in written and field.attname not in written:
            continue
        now = instance.__dict__.get(field.attname, before[field.attname])
        if hasattr(now, "resolve_expression") or field.to_python(now) != before[field.attname]:
            return True
    return False
