"""URLs of this package: ``path("events/", include("django_sse.urls"))``."""

from django.urls import path

from django_sse.views import EventStreamView, WorkerView

app_name = "django_sse"
urlpatterns = [
    path("", EventStreamView.as_view(), name="stream"),
    path("worker.js", WorkerView.as_view(), name="worker"),
]
