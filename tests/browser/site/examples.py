"""The examples of the documents, as pages of the site."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from django_sse import get_cursor


def example(request: HttpRequest, name: str, topic: str) -> HttpResponse:
    """Show an example as a project's view would: with what there is by now, and where that is unless told."""
    context = {
        "topic": topic,
        "cursor": request.GET.get("cursor") or get_cursor(topic),
        "price": 2,
        "orders": [{"pk": 1, "customer": "Ada", "status": "paid"}],
    }
    return render(request, f"{name}.html", context)


def order_count(request: HttpRequest) -> HttpResponse:
    """Answer what a page asks for when an order was made."""
    return HttpResponse("2 orders")
