"""What the site with accounts can be told to do."""

from django.contrib.auth import alogin
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from django_sse import asend_event


async def enter(request: HttpRequest) -> JsonResponse:
    """Make an account, and sign it in."""
    user = await User.objects.acreate_user(request.GET["name"])
    await alogin(request, user)
    return JsonResponse({"pk": user.pk})


def page(request: HttpRequest) -> JsonResponse:
    """Ask the database something, as ordinary pages do."""
    return JsonResponse({"users": User.objects.count(), "name": request.user.get_username()})


async def tell(request: HttpRequest) -> JsonResponse:
    """Send an event to every user."""
    users = [user async for user in User.objects.all()]
    await asend_event(users, "told", 1)
    return JsonResponse({"users": len(users)})


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("enter", enter),
    path("page", page),
    path("tell", tell),
]
