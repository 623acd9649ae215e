"""URLs of the demo: its pages, Django's admin, and the event stream."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("testproject.demo.urls")),
    path("admin/", admin.site.urls),
    path("events/", include("django_sse.urls")),
]
