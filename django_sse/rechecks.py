"""Asking again whether those who have streams may still have them.

Django tells by a signal who logs out, and which user is saved or deleted: these streams end at once, in
every process. For the rest (a session that ended elsewhere, a password that an `update()` changed) each hub
asks the stores every RECHECK seconds, for all its streams in a few queries that only read.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth import get_user_model, load_backend
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.db.models.signals import post_delete, post_save
from django.utils.crypto import constant_time_compare
from django.utils.timezone import now

from django_sse import hub as hubs
from django_sse.hub import Hub
from django_sse.revocations import Revocation, digest_of
from django_sse.revoking import revoke_after_commit
from django_sse.threads import close_connections
from django_sse.topics import USER_PREFIX, user_topic
from django_sse.visitors import Visitor

logger = logging.getLogger(__name__)

#: Rows that one query asks for.
_SLICE: Final = 500


def prepare() -> None:
    """Listen to Django's signals, and ask again from each hub's first stream on."""
    if not apps.is_installed("django.contrib.auth"):
        return
    user_logged_out.connect(_on_logout, dispatch_uid="django_sse.logout")
    model = get_user_model()
    post_save.connect(_on_save, sender=model, dispatch_uid="django_sse.user_saved")
    post_delete.connect(_on_delete, sender=model, dispatch_uid="django_sse.user_deleted")
    hubs.at_start[watch] = None


# -- what Django tells -------------------------------------------------------------------------------


def _on_logout(*, request: Any, user: Any, **_: object) -> None:
    if user is None:
        return
    # The session is flushed behind this signal; whoever still comes with it is late.
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    digest = None if session_key is None else digest_of(session_key)
    _revoke(user, digest)


def _on_save(*, instance: Any, using: str, created: bool = False, raw: bool = False, **_: object) -> None:
    if created or raw:
        return
    # Django keeps a new password in the clear on the instance until its save is over.
    has_new_password = getattr(instance, "_password", None) is not None
    if has_new_password or not getattr(instance, "is_active", True):
        _revoke(instance, using=using)


def _on_delete(*, instance: Any, using: str, **_: object) -> None:
    _revoke(instance, using=using)


def _revoke(user: Any, session: str | None = None, *, using: str = "default") -> None:
    try:
        revoke_after_commit(Revocation(user=user_topic(user), session=session), using)
    except Exception:
        # Whatever it is, it must not keep anybody from logging out; the next recheck mends it.
        logger.exception("A revocation was not sent")


# -- what nobody tells -------------------------------------------------------------------------------


def watch(hub: Hub) -> None:
    """Ask again every RECHECK seconds."""
    if hub.settings.RECHECK is not None:
        hub.spawn(_rechecking(hub, hub.settings.RECHECK))


async def _rechecking(hub: Hub, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311  (not a secret)
        try:
            await recheck(hub)
        except Exception:
            # The project's stores may be down, or its backends raise anything; ask again later.
            logger.exception("Nobody could be asked whether streams may go on")


async def recheck(hub: Hub) -> None:
    """Ask once for all streams of a hub; end those of whom the answer is no."""
    visitors = dict.fromkeys(stream.visitor for stream in hub.streams if stream.visitor is not None)
    if not visitors:
        return
    lost = await sync_to_async(_lost)(visitors)
    hub.streams.end((stream for stream in hub.streams if stream.visitor in lost), "revoked", drop=True)


def _lost(visitors: Collection[Visitor]) -> Collection[Visitor]:
    """Return those who may not have their streams any more; asks the stores, so it belongs in a thread."""
    try:
        users, ended = _users(visitors), _ended_sessions(visitors)
        return {
            visitor
            for visitor in visitors
            if visitor.session_key in ended or not _may_stay(visitor, users.get(visitor.user))
        }
    finally:
        close_connections()


def _users(visitors: Iterable[Visitor]) -> dict[str, Any]:
    """Return the users who are still there, by their topics."""
    # As `get_user` of Django's backend finds them, by the same manager.
    manager = get_user_model()._default_manager  # noqa: SLF001  (a documented name)
    pks = dict.fromkeys(visitor.user.removeprefix(USER_PREFIX) for visitor in visitors)
    return {user_topic(user): user for some in _slices(pks) for user in manager.filter(pk__in=some)}


def _ended_sessions(visitors: Iterable[Visitor]) -> set[str | None]:
    """Return the keys of sessions that their stores do not have any more."""
    by_store: defaultdict[Any, dict[str, None]] = defaultdict(dict)
    for visitor in visitors:
        if visitor.session_key is not None:
            by_store[visitor.session_store][visitor.session_key] = None
    ended: set[str | None] = set()
    for store, keys in by_store.items():
        if hasattr(store, "get_model_class"):
            sessions = store.get_model_class().objects.filter(expire_date__gt=now())
            for some in _slices(keys):
                found = sessions.filter(session_key__in=some).values_list("session_key", flat=True)
                ended |= set(some) - set(found)
        elif not issubclass(store, SignedCookies):  # nobody keeps those
            ended |= {key for key in keys if not store().exists(key)}
    return ended


def _may_stay(visitor: Visitor, user: Any) -> bool:
    """Tell whether a user is there, may sign in, and has the password with which the session began."""
    if user is None or not _may_sign_in(user, visitor.backend):
        return False
    if not visitor.auth_hash or not hasattr(user, "get_session_auth_hash"):
        return True
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(visitor.auth_hash, one) for one in hashes)


def _may_sign_in(user: Any, path: str) -> bool:
    """Ask the backend by which the user has signed in: some of them admit inactive users."""
    try:
        ask = getattr(load_backend(path), "user_can_authenticate", None) if path else None
    except ImportError:
        return False  # the project has it no more
    return bool(getattr(user, "is_active", True) if ask is None else ask(user))


def _slices(values: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(values)
    while some := list(islice(iterator, _SLICE)):
        yield some
