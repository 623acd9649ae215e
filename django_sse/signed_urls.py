"""Addresses of streams for clients without cookies: signed, for one user, for some time.

Whoever has such an address is that user, for these topics. It ends with its time, with the user's account or
password, and with `revoke`: it holds where the control topic stood when it was made, and what came since is
read at each connect. Where that can no longer be read the address is refused, for nobody knows.
"""

from dataclasses import dataclass
from time import time
from typing import Any, Final
from urllib.parse import urlencode

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core import signing
from django.http import HttpRequest
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac

from django_sse.exceptions import TopicError
from django_sse.history import Gone, get_history
from django_sse.positions import Position
from django_sse.requests import began
from django_sse.revocations import Revocation
from django_sse.topics import CONTROL_TOPIC, check_topic, user_topic
from django_sse.visitors import Visitor
from django_sse.wire import Event

#: The query's key.
TOKEN: Final = "token"  # noqa: S105  (a name)
_SALT: Final = "django_sse.signed_urls"
#: Entries of the control topic that one read asks for.
_LIMIT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a signed address gives: to be a user, for some topics, for so many seconds."""

    user: Any
    topics: tuple[str, ...]
    seconds: float

    def sign_in(self, request: HttpRequest) -> Visitor:
        """Make a request the user's, whatever session it comes with."""

        async def auser() -> Any:
            return self.user

        request.user = self.user
        request.auser = auser
        ask = getattr(self.user, "get_session_auth_hash", str)
        return Visitor(user=user_topic(self.user), began=began(request), auth_hash=ask())


def signed_stream_url(
    user: Any, *topics: str, expires: float = 3600.0, viewname: str = "django_sse:stream"
) -> str:
    """Return the address of a stream of this user's own topic and these, good for ``expires`` seconds.

    The topics are asked of the rules at each connect, with the user as ``request.user``. Whoever has the
    address has the stream: give it to its user alone. Raises TopicError for a wrong topic or an anonymous
    user.
    """
    return _url(user, topics, expires, viewname, get_history().tail([CONTROL_TOPIC])[CONTROL_TOPIC])


async def asigned_stream_url(
    user: Any, *topics: str, expires: float = 3600.0, viewname: str = "django_sse:stream"
) -> str:
    """Do what `signed_stream_url` does."""
    tails = await get_history().atail([CONTROL_TOPIC])
    return _url(user, topics, expires, viewname, tails[CONTROL_TOPIC])


def _url(user: Any, topics: tuple[str, ...], expires: float, viewname: str, control: Position) -> str:
    user_topic(user)  # raises where it has none
    token = signing.dumps(
        {
            "user": str(user.pk),
            "hash": _hash(user),
            "topics": [check_topic(topic) for topic in topics],
            "until": time() + expires,
            "control": [control.offset, control.tag],
        },
        salt=_SALT,
    )
    return f"{reverse(viewname)}?{urlencode({TOKEN: token})}"


async def read_token(token: str) -> Grant | None:
    """Return what a token gives, None where it is no longer good or never was; raise HistoryError."""
    try:
        data = signing.loads(token, salt=_SALT)
        topics = tuple(check_topic(topic) for topic in data["topics"])
        offset, tag = data["control"]
        control = Position(offset=offset, tag=tag)
        seconds = data["until"] - time()
    except (signing.BadSignature, TopicError, KeyError, TypeError, ValueError):
        return None  # also what an earlier version of this package has signed
    if seconds <= 0:
        return None
    user = await sync_to_async(_user)(data["user"], data["hash"])
    if user is None or await _was_revoked(user_topic(user), control):
        return None
    return Grant(user=user, topics=topics, seconds=seconds)


def _user(pk: str, known: str) -> Any:
    user = get_user_model()._default_manager.filter(pk=pk).first()  # noqa: SLF001  (a documented name)
    if user is None or not getattr(user, "is_active", True) or not constant_time_compare(_hash(user), known):
        return None
    return user


def _hash(user: Any) -> str:
    """Return what changes with the user's password, and tells nothing about it."""
    ask = getattr(user, "get_session_auth_hash", None)
    return "" if ask is None else salted_hmac(_SALT, ask(), algorithm="sha256").hexdigest()[:32]


async def _was_revoked(user: str, control: Position) -> bool:
    history, more = get_history(), True
    while more:
        page = await history.read(CONTROL_TOPIC, control, limit=_LIMIT)
        if isinstance(page, Gone):
            return True  # or not: nobody knows
        if any(_names(entry.event, user) for entry in page.entries):
            return True
        more = page.more
        if more:
            control = page.entries[-1].position
    return False


def _names(event: Event, user: str) -> bool:
    try:
        return Revocation.of(event).user == user
    except ValueError:
        return False  # as hubs see it
