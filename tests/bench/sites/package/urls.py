"""The streams, and what the site can be told to do."""

from django.urls import include, path

from django_sse import asend_event
from tests.bench.sites.order import TOPIC, text_of
from tests.bench.sites.views import urls


async def _publish(numbers: range) -> None:
    for number in numbers:
        await asend_event(TOPIC, "message", text=text_of(number))


urlpatterns = [path("events/", include("django_sse.urls")), *urls(_publish)]
