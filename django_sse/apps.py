"""The app's start."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.core.signals import request_started
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from django_sse import drain, rechecks, status
from django_sse.checks import register_all
from django_sse.hearing import note_request
from django_sse.requests import stamp


class DjangoSSEConfig(AppConfig):
    """Finds every app's ``sse.py``, checks the project, and stamps requests."""

    name = "django_sse"
    verbose_name = _("Server-Sent Events")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what must be there from the beginning."""
        request_started.connect(_stamp, dispatch_uid="django_sse.stamp")
        register_all()
        drain.prepare()
        rechecks.prepare()
        status.prepare()
        if find_spec("prometheus_client") is not None:
            import_module("django_sse.metrics").register()
        autodiscover_modules("sse")


def _stamp(
    *, scope: dict[str, Any] | None = None, environ: dict[str, Any] | None = None, **_: object
) -> None:
    note_request()
    carrier = environ if scope is None else scope
    if carrier is not None:
        stamp(carrier)
