"""The order of one row's events: versions are drawn while the row is locked, so they follow its writes."""

import copy
import logging
from typing import Any

from django.db import connections
from django.db.models import F, Model, QuerySet

from django_sse.counters import published
from django_sse.exceptions import HistoryError
from django_sse.history import get_history

logger = logging.getLogger(__name__)


def draw_version(model: type[Model], pk: object) -> int | None:
    """Return a version; None where the history has none, which is logged and counted."""
    try:
        return get_history().next_version()
    except HistoryError:
        published.note_unversioned()
        logger.exception("An event of %s with pk %s goes unversioned", model._meta.label, pk)
        return None


def rows_of(instance: Model, using: str) -> QuerySet[Model]:
    """Return the query of an instance's row."""
    return type(instance)._base_manager.using(using).filter(pk=instance.pk)


def lock(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the query as one that locks its rows, or the database where it has no such locks."""
    connection = connections[rows.db]
    if connection.features.has_select_for_update:
        return rows.select_for_update(no_key=connection.features.has_select_for_no_key_update)
    # SQLite: whoever begins to write has the lock of the whole database, whatever rows that meets.
    name = rows.model._meta.pk.attname
    rows.model._base_manager.using(rows.db).filter(pk__isnull=True).update(**{name: F(name)})
    return rows


def refreshed(instance: Any, rows: QuerySet[Any]) -> Model | None:
    """Return a copy with the columns as they are in the row, None where it is gone."""
    fresh: Model = copy.copy(instance)
    try:
        fresh.refresh_from_db(using=rows.db, from_queryset=rows)
    except type(instance).DoesNotExist:
        return None
    return fresh


def is_open(using: str) -> bool:
    """Tell whether a transaction keeps the lock of what was just written."""
    is_open: bool = connections[using].in_atomic_block
    return is_open
