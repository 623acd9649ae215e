"""The files that pages load, and the script from the site's own origin."""

from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

import django_sse
from django_sse.asgi import LeanHandler
from django_sse.assets import SCRIPT, script_text, script_version
from tests.visits import Visit

TEXT = (Path(django_sse.__file__).parent / "static" / SCRIPT).read_bytes()


def ask(version: str | None = None, method: str = "get", **headers: str) -> HttpResponse:
    """Return the answer under WSGI."""
    address = reverse("django_sse:worker") + ("" if version is None else f"?v={version}")
    answer: HttpResponse = getattr(Client(), method)(address, headers=headers)
    return answer


def test_it_is_the_script() -> None:
    """The very bytes of the static file, as a script, and as nothing else."""
    answer = ask()
    assert (answer.status_code, answer.content) == (200, TEXT)
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert script_text() == TEXT


@pytest.mark.parametrize("handler", [ASGIHandler, LeanHandler])
async def test_it_is_served_by_asgi(monkeypatch: pytest.MonkeyPatch, handler: Any) -> None:
    """The same, through Django's own ASGI handler and the lean one."""
    monkeypatch.setattr(Visit, "handler", handler)
    async with Visit("/events/worker.js") as visit:
        assert (visit.status, (await visit.rest()).encode()) == (200, TEXT)


def test_it_is_asked_for_again() -> None:
    """Under any version it is for this browser, which asks whether it has changed."""
    for version in (None, "", "another", script_version()):
        assert ask(version).headers["Cache-Control"] == "private, no-cache"


def test_it_is_sent_once() -> None:
    """A browser that has it already is told so."""
    first = ask()
    again = ask(**{"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["Cache-Control"] == "private, no-cache"
    assert ask(**{"If-None-Match": '"another"'}).status_code == 200


def test_methods() -> None:
    """It is read, and nothing else."""
    head = ask(method="head")
    assert (head.status_code, head.content) == (200, b"")
    for method in ("post", "put", "delete", "options"):
        answer = ask(method=method)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_nobody_need_sign_in(settings: Settings) -> None:
    """A site that asks everybody to sign in serves it all the same."""
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert ask().status_code == 200
