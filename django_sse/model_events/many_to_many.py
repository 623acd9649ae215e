"""Changes of many-to-many fields, which are told as updates of the rows that have the fields.

These rows are not written, so they are locked before the change, in one order: so their events have one, too.
"""

from collections.abc import Collection
from typing import Any

from django.db.models import Model, QuerySet

from django_sse.model_events.muting import is_muted
from django_sse.model_events.registry import ModelEvents
from django_sse.model_events.rows import is_open, lock
from django_sse.model_events.telling import tell

#: Where an instance has, between two signals, which rows are changed.
_CHANGED = "_django_sse_changed"


def changed(
    events: ModelEvents,
    model: type[Model],
    *,
    sender: type[Model],
    instance: Model,
    action: str,
    reverse: bool,
    pk_set: Collection[Any] | None,
    using: str,
    **_: object,
) -> None:
    """Hear of a change, before it and behind it."""
    if is_muted(model):
        return
    key = (type(events), sender, using)
    if action.startswith("pre_"):
        rows = _rows(model, sender, instance, pk_set, using, reverse=reverse).order_by("pk")
        instance.__dict__.setdefault(_CHANGED, {})[key] = list(lock(rows) if is_open(using) else rows)
        return
    for one in instance.__dict__.get(_CHANGED, {}).pop(key, ()):
        tell(events, one, "updated", using)


def _rows(
    model: type[Model],
    through: type[Model],
    instance: Model,
    pk_set: Collection[Any] | None,
    using: str,
    *,
    reverse: bool,
) -> QuerySet[Model]:
    rows = model._base_manager.using(using)
    if not reverse:
        return rows.filter(pk=instance.pk)
    if pk_set is not None:
        return rows.filter(pk__in=pk_set)
    field = next(field for field in model._meta.many_to_many if field.remote_field.through is through)
    return rows.filter(**{field.name: instance})
