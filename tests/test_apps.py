"""What the app does at its start."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import request_started
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from django_sse import access
from django_sse.apps import _stamp
from django_sse.hearing import _Hearing
from django_sse.requests import STARTED


def view(request: HttpRequest) -> HttpResponse:
    """Answer with when the request began, as the tags see it."""
    carrier = request.scope if isinstance(request, ASGIRequest) else request.META
    return HttpResponse(str(carrier[STARTED]))


urlpatterns = [path("", view)]
stamped = pytest.mark.urls(__name__)


@pytest.fixture(autouse=True)
def hearing(monkeypatch: pytest.MonkeyPatch) -> _Hearing:
    """Begin with a process that no request has come to."""
    hearing = _Hearing()
    monkeypatch.setattr("django_sse.hearing._hearing", hearing)
    return hearing


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, with a folder to import from."""
    root = Path(__file__).resolve().parent.parent
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


SETUP = """
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["shop", "django_sse"])
django.setup()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return the folder of an app of a project."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    return tmp_path


# -- every app's sse.py --------------------------------------------------------------------------------


def test_rules_are_found_at_start_up() -> None:
    """What an app's sse.py registers is there, without anybody importing it."""
    assert {"news", "room.<int:pk>", "staff"} <= {rule.pattern for rule in access._rules}


def test_an_app_needs_no_rules(shop: Path) -> None:
    """Apps without sse.py are passed over."""
    result = run(SETUP + "from django_sse import access; print(access._rules)", shop)

    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_a_faulty_rule_stops_the_start(shop: Path) -> None:
    """An error in an app's sse.py is raised, not skipped as if the file were missing."""
    (shop / "shop" / "sse.py").write_text("import no_such_module\n")

    result = run(SETUP, shop)

    assert result.returncode == 1
    assert "No module named 'no_such_module'" in result.stderr


def test_the_order_of_apps_does_not_matter(shop: Path) -> None:
    """Models may be registered in an app that stands before or after this one."""
    (shop / "shop" / "models.py").write_text(
        "from django.db import models\n\nclass Order(models.Model):\n    status = models.TextField()\n"
    )
    (shop / "shop" / "sse.py").write_text(
        "from django_sse.model_events import ModelEvents, register\n"
        "from shop.models import Order\n\n"
        "@register(Order)\n"
        "class OrderEvents(ModelEvents):\n"
        "    fields = ['status']\n"
        "    to = lambda self, instance: 'orders'\n"
    )
    count = "from django.db.models.signals import post_save; print(len(post_save.receivers))"
    for order in ('["shop", "django_sse"]', '["django_sse", "shop"]'):
        result = run(SETUP.replace('["shop", "django_sse"]', order) + count, shop)

        assert (result.stdout, result.stderr) == ("1\n", "")


# -- requests ------------------------------------------------------------------------------------------


@stamped
def test_a_request_is_stamped_under_wsgi(client: Client, hearing: _Hearing) -> None:
    """Its beginning stands in its environ, by the monotonic clock."""
    before = time.monotonic()

    started = float(client.get("/").content)

    assert before <= started <= time.monotonic()
    assert hearing.requested


@stamped
async def test_a_request_is_stamped_under_asgi(async_client: AsyncClient, hearing: _Hearing) -> None:
    """Its beginning stands in its scope."""
    before = time.monotonic()

    started = float((await async_client.get("/")).content)

    assert before <= started <= time.monotonic()
    assert hearing.requested


@pytest.mark.parametrize("given", [{}, {"environ": None, "scope": None}])
def test_other_servers_may_send_nothing(given: Any, hearing: _Hearing) -> None:
    """Where the signal brings neither environ nor scope, the request still counts."""
    _stamp(sender=None, signal=request_started, **given)

    assert hearing.requested


def test_the_app_is_named() -> None:
    """Its label is that of its package, and its name can be translated."""
    config = apps.get_app_config("django_sse")

    assert (config.name, str(config.verbose_name)) == ("django_sse", "Server-Sent Events")


def test_systems_without_forks(tmp_path: Path) -> None:
    """Windows has no forks and not all of the signals: the app is made ready there too, and sends."""
    ended = run(
        """
import os, signal
del os.fork, os.register_at_fork, signal.SIGQUIT
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_sse"])
django.setup()
from django_sse import send_event
from django_sse.history import get_history
send_event("news", "published")
print(get_history().tail(["news"])["news"].offset)
""",
        tmp_path,
    )
    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr
