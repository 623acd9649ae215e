"""URLs of the demo: the start page, each scene with its source, and the accounts."""

from django.urls import include, path

from testproject.demo import views
from testproject.demo.scenes import SCENES

app_name = "demo"

urlpatterns = [
    path("", views.start, name="start"),
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("<slug:slug>/source/", views.source, name="source"),
    *(path(f"{scene.slug}/", include(scene.module)) for scene in SCENES),
]
