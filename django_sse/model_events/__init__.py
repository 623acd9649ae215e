"""Saves and deletes of models as events."""

from django_sse.model_events.base import ModelEvents
from django_sse.model_events.muting import muted
from django_sse.model_events.querysets import publish_queryset
from django_sse.model_events.registry import register, registered

__all__ = ["ModelEvents", "muted", "publish_queryset", "register", "registered"]
