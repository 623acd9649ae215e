"""Saves that tell nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db.models import Model

#: A context variable: neither another thread nor another task is muted along.
_muted: ContextVar[tuple[type[Model], ...]] = ContextVar("django_sse.muted", default=())


@contextmanager
def muted(*models: type[Model]) -> Iterator[None]:
    """Tell no model events in a block: none of these models and their subclasses, or none at all."""
    token = _muted.set((*_muted.get(), *(models or (Model,))))
    try:
        yield
    finally:
        _muted.reset(token)


def is_muted(model: type[Model]) -> bool:
    """Tell whether a model's events are not told now."""
    return issubclass(model, _muted.get())
