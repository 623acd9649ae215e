"""URLs of the demo's pages and their forms."""

from django.urls import path

from testproject.demo import views

app_name = "demo"

urlpatterns = [
    path("", views.index, name="index"),
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("job/", views.job, name="job"),
    path("notes/", views.send_note, name="send-note"),
]
