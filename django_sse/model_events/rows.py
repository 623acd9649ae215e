"""Rows as the database has them, and locks on them."""

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connections
from django.db.models import Model, QuerySet

_Model = TypeVar("_Model", bound=Model)


def rows_of(model: type[_Model], pks: Collection[Any], using: str) -> "QuerySet[_Model]":
    """Return the rows with these keys, whatever the project's managers hide or join."""
    return model._base_manager.using(using).select_related(None).filter(pk__in=pks)


def locked(rows: "QuerySet[_Model]") -> "QuerySet[_Model]":
    """Return rows that are locked as they are read, until the transaction ends."""
    using = rows.db
    connection = connections[using]
    if connection.features.has_select_for_update:
        # No key changes: PostgreSQL lets others go on that insert rows which refer to these.
        return rows.select_for_update(no_key=connection.features.has_select_for_no_key_update)
    # SQLite has one lock, which every write takes; one that finds no row changes nothing on the disk.
    field: Any = rows.model._meta.pk_fields[0]
    table, column = map(connection.ops.quote_name, (field.model._meta.db_table, field.column))
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {column} = {column} WHERE 1 = 0")  # noqa: S608  (names of ours)
    return rows


def fresh_copy(instance: _Model, using: str, *, lock: bool) -> _Model | None:
    """Return an instance as its row is now; None where that is gone.

    What the project has put on the instance, and what is deferred, is the copy's too.
    """
    fresh = copy.copy(instance)
    rows: Any = rows_of(type(instance), [instance.pk], using)
    if lock:
        rows = locked(rows)
    # Django's own: a project's may do more, and take other arguments.
    try:
        Model.refresh_from_db(fresh, using=using, from_queryset=rows)
    except ObjectDoesNotExist:
        return None
    return fresh


def may_differ(instance: Model, update_fields: Collection[str] | None) -> bool:
    """Tell whether an instance that was just saved may differ from its row."""
    return update_fields is not None or any(
        field.generated or hasattr(instance.__dict__.get(field.attname), "resolve_expression")
        for field in instance._meta.concrete_fields
    )


@contextmanager
def harmless(using: str) -> Iterator[None]:
    """Keep a transaction whole whatever the queries of a block do: those that fail are rolled back.

    The savepoint is made at the first query. Most blocks have none, and cost no round trip.
    """
    connection: Any = connections[using]
    if not connection.in_atomic_block:
        yield
        return
    savepoint: list[str | None] = []

    def begin(execute: Any, *arguments: Any) -> Any:
        if not savepoint:
            savepoint.append(None)  # its own statement comes here, too
            savepoint[0] = connection.savepoint()
        return execute(*arguments)

    try:
        with connection.execute_wrapper(begin):
            yield
    except BaseException:
        _roll_back(savepoint, connection)
        raise
    if connection.get_rollback():
        _roll_back(savepoint, connection)  # the project caught an error that has spoilt the transaction
    elif savepoint and savepoint[0] is not None:
        try:
            connection.savepoint_commit(savepoint[0])
        except DatabaseError:
            _roll_back(savepoint, connection)  # likewise, in SQL of its own


def _roll_back(savepoint: list[str | None], connection: Any) -> None:
    if not savepoint or savepoint[0] is None:
        return
    connection.needs_rollback = False  # or else no statement passes, not even this one
    try:
        connection.savepoint_rollback(savepoint[0])
        connection.savepoint_commit(savepoint[0])
    except DatabaseError:
        # A deadlock in MySQL has rolled back everything, savepoints too: nothing may be committed.
        connection.needs_rollback = True
