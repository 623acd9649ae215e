"""Telling of rows that were written without signals."""

from itertools import islice
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import QuerySet

from django_sse.exceptions import EventError
from django_sse.model_events.muting import is_muted
from django_sse.model_events.registry import registered
from django_sse.model_events.rows import lock
from django_sse.model_events.telling import tell

_ROWS_AT_ONCE: Final = 500


def publish_queryset(queryset: QuerySet[Any], action: str = "updated") -> None:
    """Tell that each row of a queryset was created or updated, by the classes that are registered.

    Call it behind ``bulk_create``, ``bulk_update`` and ``QuerySet.update()``, which send no signals, in the
    same transaction where there is one. The rows are locked, in the order of their keys, and read anew.

    Raises EventError for another action, ImproperlyConfigured where no class tells of the model.
    """
    if action not in ("created", "updated"):
        msg = f"a queryset can tell that its rows were created or updated, not {action!r}"
        raise EventError(msg)
    model = queryset.model
    tellers = [events() for one, events in registered() if one is model]
    if not tellers:
        msg = f"nothing tells of {model._meta.label}: register a ModelEvents class for it"
        raise ImproperlyConfigured(msg)
    if is_muted(model):
        return
    using = vars(queryset)["_db"] or router.db_for_write(model)
    with transaction.atomic(using):
        keys = iter(sorted(queryset.using(using).order_by().values_list("pk", flat=True)))
        while some := tuple(islice(keys, _ROWS_AT_ONCE)):
            rows = model._base_manager.using(using).filter(pk__in=some).order_by("pk")
            for instance in lock(rows):
                for events in tellers:
                    tell(events, instance, action, using)
