"""The admin shows what goes on, live, to whoever may look, and to nobody else."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin import site
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import AsyncClient
from django.urls import path
from pytest_django import Settings

from django_sse import admin
from django_sse.models import Process
from tests.exchange import Exchange, open_exchange
from tests.visits import Visit

pytestmark = pytest.mark.usefixtures("database")

PAGE = "/admin/django_sse/process/"
STREAM = f"{PAGE}stream/"


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of a process whose project has an admin."""
    settings.ROOT_URLCONF = (path("admin/", site.urls),)
    async with open_exchange(settings, CHECK=3600) as exchange:
        yield exchange


async def sign_in(*permissions: str, **fields: Any) -> dict[str, str]:
    """Return the headers of a user with these permissions."""
    user = await User.objects.acreate_user("ann", **fields)
    for codename in permissions:
        permission = await Permission.objects.aget(codename=codename)
        await user.user_permissions.aadd(permission)
    client = AsyncClient()
    await client.aforce_login(user)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


async def test_the_page(exchange: Exchange) -> None:
    """Staff with the permission see the page, which names its stream, script and style, all of this site."""
    headers = await sign_in("view_process", is_staff=True)
    async with Visit(PAGE, headers=headers) as visit:
        assert visit.status == 200
        text = await visit.rest()
    assert f'data-stream="{STREAM}"' in text
    assert "django_sse/status.js" in text
    assert "django_sse/status.css" in text
    assert "<script>" not in text
    async with Visit("/admin/", headers=headers) as visit:
        assert PAGE in await visit.rest()


async def test_its_stream(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells again and again what every process reports."""
    monkeypatch.setattr(admin, "_ANSWER", 0.01)
    monkeypatch.setattr(admin, "_PAUSE", 0.0)
    async with Visit(STREAM, headers=await sign_in("view_process", is_staff=True)) as visit:
        assert visit.headers["content-type"] == "text/event-stream"
        for _ in range(3):
            assert isinstance(json.loads((await visit.event("status")).text), list)


@pytest.mark.parametrize("target", [PAGE, STREAM])
async def test_nobody_else(exchange: Exchange, target: str) -> None:
    """Visitors are sent to sign in, and staff without the permission are refused."""
    async with Visit(target) as visit:
        assert visit.status == 302
        assert visit.headers["location"].startswith("/admin/login/")
    async with Visit(target, headers=await sign_in(is_staff=True)) as visit:
        assert visit.status == 403


async def test_there_is_nothing_to_change(exchange: Exchange) -> None:
    """The page is all there is: no adding, changing or deleting, also for a superuser."""
    headers = await sign_in(is_staff=True, is_superuser=True)
    for target in ("add/", "1/change/", "1/delete/", "1/"):
        async with Visit(f"{PAGE}{target}", headers=headers) as visit:
            assert visit.status == 404
    async with Visit("/admin/", headers=headers) as visit:
        assert f"{PAGE}add/" not in await visit.rest()


async def test_migrations_are_complete() -> None:
    """The models and the migrations say the same."""
    await sync_to_async(call_command)("makemigrations", "django_sse", check=True, dry_run=True, verbosity=0)


def test_a_process_has_a_name() -> None:
    """As the admin's log would write it."""
    assert str(Process()) == "process"
