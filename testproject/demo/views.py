"""The pages around the scenes: the start, the sources, and the one-click accounts."""

from typing import Any

from django.contrib.auth import get_user_model, login, logout
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from testproject.demo.accounts import ACCOUNTS, USERNAMES
from testproject.demo.pages import page
from testproject.demo.scenes import SCENES


def everywhere(request: HttpRequest) -> dict[str, Any]:
    """Give every template what the header shows; a context processor."""
    return {"scenes": SCENES, "accounts": ACCOUNTS}


@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """Show a card for each scene, which is live as well."""
    return page(request, "demo/start.html", {name: it for one in SCENES for name, it in one.card().items()})


@require_safe
def source(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the files that a scene is made of. Which ones, the scene says, and never the request."""
    scene = next((scene for scene in SCENES if scene.slug == slug), None)
    if scene is None:
        raise Http404
    return page(request, "demo/source.html", {"scene": scene, "files": scene.sources()})


@require_POST
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in one of the made-up accounts: without a password, so nobody else's."""
    username = request.POST.get("account", "")
    if username not in USERNAMES:
        return HttpResponseBadRequest("Only the made-up accounts sign in with one click.")
    user = get_object_or_404(get_user_model(), username=username)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect(_next(request))


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Sign out, and show the page as a visitor sees it."""
    logout(request)
    return redirect(_next(request))


def _next(request: HttpRequest) -> str:
    address = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(
        address, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return address if is_ours else reverse("demo:start")
