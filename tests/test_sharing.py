"""A stream is given to the page of its visitor, and to nobody else's."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import AsyncClient, RequestFactory
from django.urls import path
from pytest_django import Settings

from django_sse import access, markup
from django_sse.sharing import is_share_key, share_key
from django_sse.signed_urls import asigned_stream_url
from django_sse.topics import user_topic
from django_sse.views import EventStreamView
from tests.exchange import Exchange, open_exchange
from tests.test_markup import attributes
from tests.visits import Visit

pytestmark = pytest.mark.usefixtures("handler")


@pytest.fixture(autouse=True)
def rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody follow the news."""
    monkeypatch.setattr(access, "_rules", [])
    access.allow("news", public=True)


@pytest.fixture
async def exchange(settings: Settings) -> AsyncIterator[Exchange]:
    """Return the hub of the process under test."""
    async with open_exchange(settings) as exchange:
        yield exchange


async def sign_in(name: str) -> tuple[User, dict[str, str]]:
    """Return a new user, and the headers of a request of theirs."""
    user = await User.objects.acreate_user(name)
    client = AsyncClient()
    await client.aforce_login(user)
    return user, {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def page_of(user: User | None) -> str:
    """Return the address that a page of a visitor connects to."""
    request = RequestFactory().get("/")
    request.user = user or AnonymousUser()
    return attributes(markup.stream(request, ["news"]))["src"] or ""


async def status(address: str, headers: dict[str, str] | None = None) -> int:
    """Return the status of the answer, which is a sentence where the page is another visitor's."""
    async with Visit(address, headers=headers) as visit:
        if visit.status == 403:
            assert await visit.rest() == "This page was made for another visitor: load it again.\n"
        return visit.status


def test_keys() -> None:
    """A key is short, stands in an address as it is, always the same, and every visitor's is another one."""
    visitors = [None, "user.1", "user.2", "user.", "user.None"]
    keys = [share_key(visitor) for visitor in visitors]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", key) for key in keys)
    assert len(set(keys)) == len(keys)
    assert [share_key(visitor) for visitor in visitors] == keys
    assert [[is_share_key(key, visitor) for key in keys] for visitor in visitors] == [
        [key == other for other in keys] for key in keys
    ]


def test_keys_of_a_site(settings: Settings) -> None:
    """Another site's keys are other ones; those of an old secret key are good while that is kept."""
    secret, old = settings.SECRET_KEY, share_key("user.1")
    settings.SECRET_KEY = "another"
    assert share_key("user.1") != old
    assert not is_share_key(old, "user.1")
    settings.SECRET_KEY_FALLBACKS = [secret]
    assert is_share_key(old, "user.1")
    assert not is_share_key(old, "user.2")


async def test_pages_of_their_own_visitor(exchange: Exchange, database: None) -> None:
    """A page is answered where the visitor is the one whom it was made for, signed in or not."""
    ann, headers = await sign_in("ann")
    assert await status(page_of(ann), headers) == 200
    assert await status(page_of(None)) == 200


async def test_pages_of_another_visitor(exchange: Exchange, database: None) -> None:
    """Whoever has signed in or out since then, the page that was left open gets nothing."""
    ann, headers = await sign_in("ann")
    ben, others = await sign_in("ben")
    assert await status(page_of(ann), others) == 403
    assert await status(page_of(ben), headers) == 403
    assert await status(page_of(ann)) == 403
    assert await status(page_of(None), headers) == 403


@pytest.mark.parametrize(
    "keys", [[""], ["x"], ["ö" * 22], ["\x00"], ["{}A"], ["{}", "x"], ["x", "{}"], ["{}", ""]]
)
async def test_what_is_no_key(exchange: Exchange, keys: list[str]) -> None:
    """Anything but the key is refused, an empty value too, and also beside the key."""
    named = [("share", key.format(share_key(None))) for key in keys]
    assert await status(f"/events/?{urlencode([('topic', 'news'), *named])}") == 403


async def test_bytes_that_are_no_text(exchange: Exchange) -> None:
    """A key of bytes that are no UTF-8 is refused like any other."""
    assert await status("/events/?topic=news&share=%ff%00%ed%a0%80") == 403


async def test_a_key_that_is_there_twice(exchange: Exchange) -> None:
    """The same key twice says nothing else than once."""
    key = share_key(None)
    assert await status(f"/events/?topic=news&share={key}&share={key}") == 200


async def test_views_of_the_project(exchange: Exchange, settings: Settings, database: None) -> None:
    """Views of one's own ask as well, and need no key where the page names none."""
    settings.ROOT_URLCONF = (path("", EventStreamView.as_view(topics=["news"])),)
    ann, headers = await sign_in("ann")
    key = share_key(user_topic(ann))
    assert await status("/", headers) == 200
    assert await status(f"/?share={key}", headers) == 200
    assert await status(f"/?share={key}") == 403


async def test_signed_addresses(exchange: Exchange, database: None) -> None:
    """A signed address is its user's, whoever has signed in: that user's key goes with it, and no other."""
    ann, _ = await sign_in("ann")
    ben, headers = await sign_in("ben")
    address = await asigned_stream_url(ann, "news")
    assert await status(f"{address}&share={share_key(user_topic(ann))}", headers) == 200
    assert await status(f"{address}&share={share_key(user_topic(ben))}", headers) == 403
    assert await status(f"{address}&share={share_key(None)}") == 403
