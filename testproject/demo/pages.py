"""What every page of the demo is made with: its scene, its policy, and the answer to its forms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

HERE = Path(__file__).resolve().parent

# The strictest policy that a page can have, to show that tags and attributes need nothing more.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types django-sse"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One page of the demo, which shows one use of events."""

    slug: str
    title: str
    #: One sentence, for the card on the start page.
    summary: str
    #: The module of its views, which has its `urlpatterns`.
    module: str
    #: What its card shows of this moment; its template is in `cards`.
    card: Callable[[], Mapping[str, Any]] = dict
    #: What its source page shows beside its views and its template: paths in this app.
    files: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        """The template of its page."""
        return f"demo/scenes/{self.slug}.html"

    @property
    def card_template(self) -> str:
        """The template of what moves in its card."""
        return f"demo/cards/{self.slug}.html"

    def sources(self) -> list[tuple[str, str]]:
        """Return path and text of its files, as they are on disk now."""
        views = self.module.removeprefix("testproject.demo.").replace(".", "/") + ".py"
        paths = (views, f"templates/{self.template}", *self.files)
        return [(f"testproject/demo/{path}", (HERE / path).read_text()) for path in paths]

    def render(self, request: HttpRequest, context: Mapping[str, Any], *, status: int = 200) -> HttpResponse:
        """Render its page as things stand now; the stream carries it on from there."""
        return page(request, self.template, {"scene": self, **context}, status=status)


class SignedIn(HttpRequest):
    """What a request is behind `login_required`, for type checkers."""

    user: User


def page(
    request: HttpRequest, template: str, context: Mapping[str, Any], *, status: int = 200
) -> HttpResponse:
    """Render a page of the demo."""
    response = render(request, template, dict(context), status=status)
    response["Content-Security-Policy"] = POLICY
    return response


def answered(request: HttpRequest, back_to: str) -> HttpResponse:
    """Answer a form whose outcome comes through the stream: the browser stays where it is.

    Where no script runs the page's forms say so, and the page is loaded again.
    """
    return redirect(back_to) if "reload" in request.POST else HttpResponse(status=204)
