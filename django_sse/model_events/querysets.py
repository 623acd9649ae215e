"""What no signal tells: rows that were written by a query."""

from typing import TYPE_CHECKING, Any, Final

from django.db import transaction

from django_sse.model_events.base import ACTIONS
from django_sse.model_events.muting import is_muted
from django_sse.model_events.registry import tellers_of
from django_sse.model_events.rows import locked
from django_sse.model_events.telling import tell

if TYPE_CHECKING:
    from django.db.models import QuerySet

#: Rows that are fetched at once.
_CHUNK: Final = 500


def publish_queryset(queryset: "QuerySet[Any]", action: str = "updated") -> None:
    """Tell each row of a queryset, as the classes do that are registered for its model.

    For ``bulk_create``, ``bulk_update`` and ``QuerySet.update()``, which send no signals: call it behind
    them, in their transaction. Raises ValueError for an action that there is not.
    """
    if action not in ACTIONS:
        msg = f"the action {action!r} is none: choose from {', '.join(ACTIONS)}"
        raise ValueError(msg)
    model = queryset.model
    tellers = [] if is_muted(model) else tellers_of(model)
    if not tellers:
        return
    using = queryset.select_for_update().db  # that for writing, where a router tells the two apart
    with transaction.atomic(using):
        # Which rows is one question, and reading them another: locks go with neither joins nor distinct().
        keys: Any = queryset.using(using).values("pk")
        if queryset.query.is_sliced:
            keys = [row["pk"] for row in keys]  # MySQL has no limits in subqueries
        rows = model._base_manager.using(using).select_related(None).filter(pk__in=keys).order_by("pk")
        for row in locked(rows).iterator(chunk_size=_CHUNK):
            for teller in tellers:
                tell(teller, row, action, using)
