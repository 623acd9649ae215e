"""One row's event: what it says, its version, and whether it waits."""

import logging
from collections.abc import Collection
from typing import Any

from django.db import Error, transaction
from django.db.models import Model

from django_sse.commits import Pending, change_after_commit, is_in_transaction, last_change
from django_sse.counters import published
from django_sse.exceptions import HistoryError
from django_sse.fragments import make_fragment
from django_sse.history import get_history
from django_sse.model_events.base import ModelEvents, Teller
from django_sse.model_events.rows import fresh_copy, harmless, may_differ
from django_sse.publishing import make_event, prepare, topics_of, withdraw
from django_sse.wire import Event

logger = logging.getLogger(__name__)


def tell(
    teller: Teller,
    instance: Model,
    action: str,
    using: str,
    *,
    update_fields: Collection[str] | None = None,
    unchanged: bool = False,
) -> None:
    """Tell what was done to a row, after the commit or, outside transactions, now; never raise.

    What has not changed is told only in the place of what the transaction has to tell of the row already.
    """
    try:
        if is_in_transaction(using):
            _tell_later(teller, instance, action, using, update_fields=update_fields, unchanged=unchanged)
        elif not unchanged and action in teller.events.actions:
            pending = _alone(teller, instance, action, using)
            if pending is not None:
                pending()
    except Exception as error:  # noqa: BLE001  (it is logged)
        # Whatever it is, the save must not fail for its event.
        _note_failure(instance, action, error)


def _tell_later(
    teller: Teller,
    instance: Model,
    action: str,
    using: str,
    *,
    update_fields: Collection[str] | None,
    unchanged: bool,
) -> None:
    row = (teller, key_of(instance))
    last = last_change(row, using)
    if unchanged and last is None:
        return
    existed = action != "created" if last is None else last.existed
    net = _net(action, existed=existed)
    pending = None
    if net in teller.events.actions:
        try:
            with harmless(using):
                current: Model | None = instance
                if net != "deleted" and may_differ(instance, update_fields):
                    current = fresh_copy(instance, using, lock=False)
                if current is None:
                    return  # another receiver of the signal has deleted it, which is told by itself
                pending = _prepare(teller, current, net, _draw_version(current), using)
        except Exception as error:  # noqa: BLE001  (the project's own code; it is logged)
            # What the row had to tell before is replaced all the same: that state was never committed.
            _note_failure(instance, net, error)
    if last is not None and last.pending is not None:
        with harmless(using):
            withdraw(last.pending)
    change_after_commit(row, existed=existed, pending=pending, using=using)


def _net(action: str, *, existed: bool) -> str:
    """Return what a transaction does to a row of which this is the last write; empty for nothing."""
    if action == "deleted":
        return "deleted" if existed else ""
    return "updated" if existed else "created"


def _alone(teller: Teller, instance: Model, action: str, using: str) -> Pending | None:
    """Return the event of a write that is committed already; None where the row is gone meanwhile."""
    if action == "deleted":  # no row is left to be locked
        return _prepare(teller, instance, action, _draw_version(instance), using)
    try:
        with transaction.atomic(using):
            try:
                fresh = fresh_copy(instance, using, lock=True)
            except Error as error:
                raise _UnlockedError from error
            return None if fresh is None else _prepare(teller, fresh, action, _draw_version(fresh), using)
    except _UnlockedError as error:
        _note_unversioned(instance, error)
    return _prepare(teller, instance, action, None, using)


def _prepare(teller: Teller, instance: Model, action: str, version: int | None, using: str) -> Pending:
    return prepare(
        topics_of(teller.events.to(instance)),
        _event(teller.events, instance, action),
        using=using,
        # Each class for itself: a newer event of another must not stand for one that only this one tells.
        key=None if version is None else f"{_label(instance)}.{key_of(instance)}.{teller.kind}",
        version=version,
    )


def _event(events: ModelEvents, instance: Model, action: str) -> Event:
    if events.template is None:
        return make_event(events.event_name(instance, action), events.data(instance, action))
    if action == "deleted":
        name = events.element_id(instance).replace("\\", "\\\\").replace('"', '\\"')
        return make_fragment(None, None, target=f'[id="{name}"]', swap="remove")
    context = events.context(instance, action)
    return make_fragment(events.template, context, target=events.target, swap=events.swap)


def _draw_version(instance: Model) -> int | None:
    # After the write, while the row is locked, so that versions follow the order of the commits.
    try:
        return get_history().next_version()
    except HistoryError as error:
        _note_unversioned(instance, error)
        return None


def key_of(instance: Model) -> Any:
    """Return a row's primary key as the database has it: `save()` leaves a string a string."""
    return instance._meta.pk.to_python(instance.pk)


def _label(instance: Model) -> str:
    # A proxy's rows are those of its model.
    concrete = instance._meta.concrete_model or type(instance)
    return concrete._meta.label


def _note_unversioned(instance: Model, error: Exception) -> None:
    published.note_unversioned()
    label, pk = instance._meta.label, instance.pk
    logger.error("An event of %s with pk %s goes unversioned", label, pk, exc_info=error)


def _note_failure(instance: Model, action: str, error: Exception) -> None:
    published.note_failed()
    label, pk = instance._meta.label, instance.pk
    logger.error("The %s event of %s with pk %s was not sent", action, label, pk, exc_info=error)


class _UnlockedError(Exception):
    """The row could not be locked, or not be read."""
