"""The views that both Django sites have beside their streams."""

from collections.abc import Awaitable, Callable

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from tests.bench.sites.order import Order


def urls(publish: Callable[[range], Awaitable[None]]) -> list[URLPattern]:
    """Return the addresses of the order, which has events published, and of the ordinary page."""

    async def order(request: HttpRequest) -> HttpResponse:
        Order.parse(request.META["QUERY_STRING"]).accept(publish)
        return HttpResponse("ok")

    async def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    return [path("order", order), path("page", page)]
