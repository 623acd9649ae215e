"""Keeping quiet about models."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db.models import Model

#: None mutes every model.
_muted: ContextVar[frozenset[type[Model] | None]] = ContextVar("django_sse.muted", default=frozenset())


@contextmanager
def muted(*models: type[Model]) -> Iterator[None]:
    """Tell nothing of these models in a block, of any model where none is named.

    It holds for the code of the block and what that calls, in its thread or task alone.
    """
    token = _muted.set(_muted.get() | (frozenset(models) or {None}))
    try:
        yield
    finally:
        _muted.reset(token)


def is_muted(model: type[Model]) -> bool:
    """Tell whether nothing is to be told of a model here."""
    models = _muted.get()
    return bool(models) and (
        None in models or any(one is not None and issubclass(model, one) for one in models)
    )
