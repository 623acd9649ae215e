"""Changes of many-to-many fields, as updates of the rows that have them.

Django sends its signals in a transaction of its own: before a change the rows are locked and read, behind it
they are told. So changes of one row have an order, although its own table is not written.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

from django.db.models import Model
from django.db.models.signals import m2m_changed

from django_sse.model_events.base import Teller, related_to
from django_sse.model_events.muting import is_muted
from django_sse.model_events.rows import fresh_copy, locked, rows_of
from django_sse.model_events.telling import tell

#: Where an instance carries, between the signals, the rows that change; by the field's and the teller's uid.
_CHANGING = "_django_sse_changing"
#: Where it carries that it comes from a fixture, of which Django tells m2m_changed only from 6.1 on.
_RAW = "_django_sse_raw"


def connect(teller: Teller) -> None:
    """Tell changes of a model's many-to-many fields from now on."""
    for name in teller.events.many_to_many:
        field: Any = teller.model._meta.get_field(name)
        receiver = partial(_changed, teller, field)
        uid = f"{teller.uid}.{name}"
        m2m_changed.connect(receiver, sender=field.remote_field.through, weak=False, dispatch_uid=uid)


def note_raw(instance: Model, *, raw: bool) -> None:
    """Remember that an instance comes from a fixture, until it is saved as others are."""
    if raw:
        instance.__dict__[_RAW] = True
    else:
        instance.__dict__.pop(_RAW, None)


def _changed(
    teller: Teller,
    field: Any,
    *,
    instance: Model,
    action: str,
    reverse: bool,
    model: type[Model],
    pk_set: Collection[Any] | None,
    using: str,
    raw: bool = False,
    **_: object,
) -> None:
    when, _dash, what = action.partition("_")
    uid = f"{teller.uid}.{field.name}"
    changing: dict[str, list[Model]] = instance.__dict__.setdefault(_CHANGING, {})
    rows = changing.pop(uid, [])  # between two signals; what a failed change has left is replaced
    if when == "pre" and not (raw or _RAW in instance.__dict__ or is_muted(teller.model)):
        if what == "clear":
            pk_set = related_to(field, instance.pk, using, reverse=reverse)
        if reverse:
            pks = list(pk_set or ()) if _has_rows(teller.model, model) else []
            changing[uid] = _locked(teller.model, pks, using)
        elif type(instance) is teller.model and pk_set:
            changing[uid] = _locked_forward(instance, pk_set if field.remote_field.symmetrical else (), using)
    elif when == "post":
        for row in rows:
            tell(teller, row, "updated", using)
    if not changing:
        del instance.__dict__[_CHANGING]


def _has_rows(model: type[Model], changed: type[Model]) -> bool:
    """Tell whether a model is the one whose rows change, or a child of it, but no proxy of it."""
    is_other_table = model._meta.concrete_model is not changed._meta.concrete_model
    return model is changed or (is_other_table and issubclass(model, changed))


def _locked(model: type[Model], pks: Collection[Any], using: str) -> list[Model]:
    # In one order, so that two who change the same rows wait for each other, and never both.
    return list(locked(rows_of(model, pks, using)).order_by("pk")) if pks else []


def _locked_forward(instance: Model, others: Collection[Any], using: str) -> list[Model]:
    """Lock a row and, of a symmetrical field, those at the other side; the instance keeps what it carries."""
    rows = _locked(type(instance), {instance.pk, *others}, using)
    fresh = fresh_copy(instance, using, lock=False)
    return [fresh if fresh is not None and row.pk == fresh.pk else row for row in rows]
