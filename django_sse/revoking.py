"""Ending users' access: a revocation is appended to the control topic, then the doorbell is rung."""

from functools import partial

from django_sse.commits import Pending, after_commit
from django_sse.exceptions import HistoryError, PublishError
from django_sse.hearing import ring
from django_sse.history import get_history
from django_sse.publishing import check_no_loop
from django_sse.revocations import Revocation
from django_sse.topics import CONTROL_TOPIC, user_topic


async def arevoke(user: object) -> None:
    """End a user's streams now, as `revoke` does; raise PublishError where it could not be told."""
    revocation, history = Revocation(user=user_topic(user)), get_history()
    try:
        entry = await history.aappend(CONTROL_TOPIC, revocation.event())
    except HistoryError as error:
        raise _revoke_error(revocation) from error
    if entry is not None:
        ring(entry)


def revoke(user: object, *, on_commit: bool = True, using: str = "default") -> None:
    """End a user's streams, in every process: their browsers come back, and are asked again.

    Call it where what a user may follow has shrunk: a membership, a permission, what a rule asks for. In a
    transaction of the database ``using`` it is told after the commit; elsewhere at once. What fails then is
    logged; with ``on_commit=False`` it raises PublishError. Where the channel layer loses it, streams end
    with the next tail check.

    Raises TopicError for a user who is anonymous or not saved; SynchronousOnlyOperation in a running event
    loop, where ``await arevoke()`` belongs.
    """
    check_no_loop("revoke()", "await arevoke()")
    revocation = Revocation(user=user_topic(user))
    if on_commit:
        revoke_after_commit(revocation, using)
    else:
        _revoke(revocation)


def revoke_after_commit(revocation: Revocation, using: str = "default") -> None:
    """Tell a revocation after the commit, at once outside transactions; what fails is logged."""
    after_commit(Pending((), revocation.event(), partial(_revoke, revocation)), using)


def _revoke(revocation: Revocation) -> None:
    try:
        entry = get_history().append(CONTROL_TOPIC, revocation.event())
    except HistoryError as error:
        raise _revoke_error(revocation) from error
    if entry is not None:
        ring(entry)


def _revoke_error(revocation: Revocation) -> PublishError:
    return PublishError(f"the streams of {revocation.user!r} do not end: the history does not answer")
