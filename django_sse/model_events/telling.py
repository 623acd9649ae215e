"""Telling of a row: its event, as it stands, waits for the commit."""

import logging
from contextlib import nullcontext
from typing import Any

from django.db import connections, transaction
from django.db.models import Model

from django_sse.commits import RowPending, after_commit, after_commit_of_row, is_in_transaction, latest_of
from django_sse.counters import published
from django_sse.fragments import make_fragment
from django_sse.model_events.registry import ModelEvents
from django_sse.model_events.rows import draw_version, is_open, lock, refreshed, rows_of
from django_sse.publishing import make_event, prepare, topics_of, withdraw
from django_sse.wire import Event

logger = logging.getLogger(__name__)

#: What two changes of a row in one transaction are together; None is none.
_TOGETHER = {
    ("created", "updated"): "created",
    ("created", "deleted"): None,
    ("updated", "updated"): "updated",
    ("updated", "deleted"): "deleted",
    ("deleted", "created"): "updated",
    # A row that was made and deleted before, and is made again.
    (None, "created"): "created",
}


def row_of(events: ModelEvents, instance: Model) -> tuple[object, ...]:
    """Return what the events of one row have in common."""
    return (type(events), instance._meta.label, instance.pk)


def tell(events: ModelEvents, instance: Model, action: str, using: str, *, is_partial: bool = False) -> None:
    """Tell what happened to a row; what fails is logged and counted, for the save must not fail for it.

    ``is_partial`` where the instance may not be as its row is.
    """
    label, pk = instance._meta.label, instance.pk
    try:
        if action != "deleted" and not is_open(using):
            # Its lock is gone, and others may have written the row since: it is locked and read again.
            with transaction.atomic(using):
                if (fresh := refreshed(instance, lock(rows_of(instance, using)))) is not None:
                    _tell(events, fresh, action, using)
            return
        # In a savepoint: where the project's code fails in a query, PostgreSQL would refuse all that follow.
        is_fragile = is_open(using) and connections[using].vendor == "postgresql"
        with transaction.atomic(using) if is_fragile else nullcontext():
            now = refreshed(instance, rows_of(instance, using)) if is_partial else instance
            if now is not None:
                _tell(events, now, action, using)
    except Exception:
        published.note_failed()
        logger.exception("The %s event of %s with pk %s was not sent", action, label, pk)


def _tell(events: ModelEvents, instance: Model, action: str, using: str) -> None:
    row = row_of(events, instance)
    before = latest_of(row, using) if is_in_transaction(using) else None
    change = action if before is None else _TOGETHER.get((before.change, action), action)
    if before is None and change not in events.actions and action == "updated":
        return
    version = draw_version(type(instance), instance.pk)
    pending = None
    if change is not None and change in events.actions:
        pending = prepare(
            topics_of(events.to(instance)),
            _event(events, instance, change),
            using=using,
            key=None if version is None else f"{instance._meta.label}.{instance.pk}",
            version=version,
        )
    if not is_in_transaction(using):
        if pending is not None:
            after_commit(pending, using)
        return
    if before is not None and before.pending is not None:
        withdraw(before.pending)
    after_commit_of_row(RowPending(row, change, pending), using)


def _event(events: ModelEvents, instance: Any, action: str) -> Event:
    if events.template is None:
        return make_event(events.event_name(instance, action), events.data(instance, action))
    if action == "deleted":
        target = f'[id="{events.element_id(instance)}"]'
        return make_fragment(None, None, target=target, swap="remove")
    context = events.context(instance, action)
    return make_fragment(events.template, context, target=events.target, swap=events.swap)
