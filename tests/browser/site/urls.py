"""URLs of the site."""

from django.urls import include, path

from tests.browser.site import examples, policies, views

urlpatterns = [
    path("favicon.ico", views.nothing),
    path("pages/<str:topic>/", views.page),
    path("send/", views.send),
    path("send-html/", views.send_html),
    path("rows/<str:topic>/", views.add),
    path("sign-in/<int:pk>/", views.sign_in),
    path("closing/<str:topic>/", views.closing),
    path("policed-worker.js", views.policed_worker),
    path("boards/<str:topic>/", views.BoardStream.as_view(topics=["{topic}"])),
    path("streams/<str:topic>/", views.streams),
    path("closings/<str:topic>/", views.closings),
    path("examples/<str:name>/<str:topic>/", examples.example),
    path("policies/<str:topic>/", policies.page),
    path("order-count/", examples.order_count, name="order-count"),
    path("events/", include("django_sse.urls")),
]
