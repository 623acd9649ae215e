"""Whether a save changes what `when_changed` names."""

import logging
from typing import Any

from django.db.models import Model

from django_sse.commits import is_in_transaction
from django_sse.model_events.base import Teller
from django_sse.model_events.rows import harmless, locked, rows_of

logger = logging.getLogger(__name__)

#: Where an instance carries what was found before its save, by the teller's uid: a pickle takes it along.
_FOUND = "_django_sse_unchanged"


def compare(teller: Teller, instance: Model, using: str, update_fields: Any) -> None:
    """Compare an instance with its row, before it is saved."""
    found = instance.__dict__.setdefault(_FOUND, {})
    try:
        with harmless(using):
            found[teller.uid] = not _changes(teller, instance, using, update_fields)
    except Exception:
        # A row that cannot be read may be what the save is about to mend.
        logger.exception("A row of %s could not be compared before its save", instance._meta.label)
        found[teller.uid] = False


def was_unchanged(teller: Teller, instance: Model) -> bool:
    """Return what was found before the save, once."""
    found = instance.__dict__.get(_FOUND, {})
    unchanged = bool(found.pop(teller.uid, False))
    if not found:
        instance.__dict__.pop(_FOUND, None)
    return unchanged


def _changes(teller: Teller, instance: Model, using: str, update_fields: Any) -> bool:
    fields: list[Any] = [instance._meta.get_field(name) for name in teller.events.when_changed or ()]
    deferred = instance.get_deferred_fields()
    written = [
        field
        for field in fields
        if field.attname not in deferred
        and (update_fields is None or not {field.name, field.attname}.isdisjoint(update_fields))
    ]
    if not written:
        return False
    if instance.pk is None or any(_is_new(field, instance) for field in written):
        return True
    rows: Any = rows_of(type(instance), [instance.pk], using)
    if is_in_transaction(using):
        rows = locked(rows)
    row = rows.values(*{field.attname for field in written}).first()
    return row is None or any(_differs(field, instance, row[field.attname]) for field in written)


def _is_new(field: Any, instance: Model) -> bool:
    """Tell whether only the save itself settles a value: an expression, a clock, a file that is uploaded."""
    value = getattr(instance, field.attname)
    return (
        hasattr(value, "resolve_expression")
        or getattr(field, "auto_now", False)
        or not getattr(value, "_committed", True)
    )


def _differs(field: Any, instance: Model, old: Any) -> bool:
    try:
        return bool(field.to_python(getattr(instance, field.attname)) != old)
    except Exception:  # noqa: BLE001  (whatever a field raises, the save will say what is wrong)
        return True
