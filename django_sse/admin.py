"""The admin's page of what goes on, live over a stream of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst

from django_sse.models import Process
from django_sse.responses import EventStreamResponse
from django_sse.status import gather_reports
from django_sse.wire import Event

#: Seconds in which other processes may answer, and between two times that they are asked.
_ANSWER: Final = 0.5
_PAUSE: Final = 1.5


async def status_events() -> AsyncIterator[Event]:
    """Give the reports of all processes, again and again."""
    while True:
        yield Event(name="status", text=json.dumps(await gather_reports(seconds=_ANSWER)))
        await asyncio.sleep(_PAUSE)


@admin.register(Process)
class ProcessAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # of Process; at runtime it takes none
    """One page, for whoever has the permission to view it."""

    def get_urls(self) -> list[URLPattern]:
        """Return the page, and its stream; there is nothing to add, change or delete."""
        info = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("", self.admin_site.admin_view(self.changelist_view), name=f"{info}_changelist"),
            path("stream/", self.admin_site.admin_view(self.stream_view), name=f"{info}_stream"),
        ]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Refuse: processes add themselves."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        """Show the page."""
        self._check(request)
        info = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_stream"
        context = {
            **self.admin_site.each_context(request),
            "title": capfirst(self.opts.verbose_name_plural),
            "opts": self.opts,
            "stream": reverse(info),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/django_sse/process/status.html", context)

    def stream_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send what the page shows."""
        self._check(request)
        return EventStreamResponse(status_events(), request=request)

    def _check(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied
