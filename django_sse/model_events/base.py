"""What a project defines."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from django.db.models import Model

from django_sse.publishing import Recipients

ACTIONS = ("created", "updated", "deleted")


class ModelEvents:
    """What a model's saves and deletes tell, and whom.

    Subclass it in an app's ``sse.py`` and `register` it; define at least `to`. The events are sent after the
    commit, those of one row in one transaction as one. ``bulk_create``, ``bulk_update`` and
    ``QuerySet.update()`` send no signals, and so no events: see `publish_queryset`.
    """

    #: What the payload carries beside ``pk``.
    fields: ClassVar[Sequence[str]] = ()
    #: Which of created, updated and deleted are told.
    actions: ClassVar[Collection[str]] = ACTIONS
    #: Updates are told only where one of these fields changed; None tells all of them.
    when_changed: ClassVar[Collection[str] | None] = None
    #: Many-to-many fields whose changes are told as updates, and which the payload carries as lists of pks.
    many_to_many: ClassVar[Sequence[str]] = ()
    #: A template of the row: what is sent is then a fragment, which pages need no script of their own for.
    template: ClassVar[str | None] = None
    #: Where fragments go, a CSS selector, and how; the template's outermost element has `element_id` as id.
    target: ClassVar[str] = ""
    swap: ClassVar[str] = "append"

    def to(self, instance: Any) -> Recipients:
        """Return a topic, a user, or an iterable of these."""
        msg = f"{type(self).__qualname__} must define to()"
        raise NotImplementedError(msg)

    def event_name(self, instance: Any, action: str) -> str:
        """Return ``<model>-<action>``."""
        return f"{instance._meta.model_name}-{action}"

    def data(self, instance: Any, action: str) -> object:
        """Return the payload: ``pk``, the fields, and the lists of ``many_to_many``."""
        told = {"pk": instance.pk} | {name: _value(instance, name) for name in self.fields}
        if action != "deleted":  # what is gone has none
            told |= {name: _related(instance, name) for name in self.many_to_many}
        return told

    def context(self, instance: Any, action: str) -> Mapping[str, Any]:
        """Return what the template is rendered with: ``object``, the same by the model's name, ``action``."""
        return {"object": instance, instance._meta.model_name: instance, "action": action}

    def element_id(self, instance: Any) -> str:
        """Return the id of the row's element in pages, ``<model>-<pk>``."""
        return f"{instance._meta.model_name}-{instance.pk}"


@dataclass(frozen=True, eq=False, slots=True)
class Teller:
    """A class that is registered for a model."""

    model: type[Model]
    events: ModelEvents

    @property
    def uid(self) -> str:
        """What it is known by, also where its module is imported again."""
        return f"django_sse.{self.kind}.{self.model._meta.label}"

    @property
    def kind(self) -> str:
        """The name of the class."""
        kind = type(self.events)
        return f"{kind.__module__}.{kind.__qualname__}"


def related_to(field: Any, pk: object, using: str, *, reverse: bool = False) -> list[Any]:
    """Return the pks at the other side of a many-to-many field, sorted, as the database has them."""
    here, there = field.m2m_field_name(), field.m2m_reverse_field_name()
    if reverse:
        here, there = there, here
    # Not by the related manager, which may hide some, and be prefetched.
    rows = field.remote_field.through._base_manager.using(using)
    found = set(rows.filter(**{f"{here}__pk": pk}).values_list(f"{there}__pk", flat=True))
    if field.remote_field.symmetrical:
        # Django adds the row of the other side when its signals have been sent.
        found |= set(rows.filter(**{f"{there}__pk": pk}).values_list(f"{here}__pk", flat=True))
    return sorted(found)


def _related(instance: Model, name: str) -> list[Any]:
    using = instance._state.db or "default"
    return related_to(instance._meta.get_field(name), instance.pk, using)


def _value(instance: Model, name: str) -> object:
    field = instance._meta.get_field(name)
    # A foreign key is told as its key: following it would be a query for each save.
    return getattr(instance, getattr(field, "attname", name))
