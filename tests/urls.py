"""The URLs of the tests' project."""

from django.urls import include, path

urlpatterns = [
    path("events/", include("django_sse.urls")),
]
