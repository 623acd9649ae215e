"""The streams, and what the site can be told to do."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from django_sse import asend_event
from tests.bench.sites.order import TOPIC, Order, text_of


async def order(request: HttpRequest) -> HttpResponse:
    """Carry out an order."""
    Order.parse(request.META["QUERY_STRING"]).accept(_publish)
    return HttpResponse("ok")


async def page(request: HttpRequest) -> HttpResponse:
    """Answer an ordinary request."""
    return HttpResponse("ok")


async def _publish(numbers: range) -> None:
    for number in numbers:
        await asend_event(TOPIC, "message", text=text_of(number))


urlpatterns = [path("events/", include("django_sse.urls")), path("order", order), path("page", page)]
