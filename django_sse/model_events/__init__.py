"""Saves and deletes of models as events.

`registry` is what a project declares, `receivers` hears Django's signals, `rows` sees to the order of a row's
events, `telling` sends them, `many_to_many` and `querysets` tell what no save does, `muting` keeps quiet.
"""

from django_sse.model_events.muting import muted
from django_sse.model_events.querysets import publish_queryset
from django_sse.model_events.receivers import register
from django_sse.model_events.registry import ModelEvents, registered

__all__ = ["ModelEvents", "muted", "publish_queryset", "register", "registered"]
