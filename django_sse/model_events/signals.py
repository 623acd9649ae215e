"""What Django's signals of saves and deletes are told on."""

from functools import partial
from typing import Any

from django.db.models import Model
from django.db.models.signals import post_delete, post_save, pre_save

from django_sse.model_events import many_to_many
from django_sse.model_events.base import Teller
from django_sse.model_events.changes import compare, was_unchanged
from django_sse.model_events.muting import is_muted
from django_sse.model_events.telling import tell


def connect(teller: Teller) -> None:
    """Tell a model's saves and deletes from now on."""
    # Signals keep weak references: nobody else holds these.
    options: Any = {"sender": teller.model, "weak": False, "dispatch_uid": teller.uid}
    if teller.events.when_changed is not None or teller.events.many_to_many:
        pre_save.connect(partial(_saving, teller), **options)
    post_save.connect(partial(_saved, teller), **options)
    post_delete.connect(partial(_deleted, teller), **options)
    many_to_many.connect(teller)


def _saving(
    teller: Teller,
    *,
    instance: Model,
    using: str,
    raw: bool = False,
    update_fields: Any = None,
    **_: object,
) -> None:
    if teller.events.many_to_many:
        many_to_many.note_raw(instance, raw=raw)
    if teller.events.when_changed is None or raw or is_muted(teller.model):
        return
    compare(teller, instance, using, update_fields)


def _saved(
    teller: Teller,
    *,
    instance: Model,
    created: bool,
    using: str,
    raw: bool = False,
    update_fields: Any = None,
    **_: object,
) -> None:
    unchanged = was_unchanged(teller, instance) and not created
    if raw or is_muted(teller.model):  # raw: a fixture is being loaded, other rows may still be missing
        return
    action = "created" if created else "updated"
    tell(teller, instance, action, using, update_fields=update_fields, unchanged=unchanged)


def _deleted(teller: Teller, *, instance: Model, using: str, **_: object) -> None:
    if not is_muted(teller.model):
        tell(teller, instance, "deleted", using)
