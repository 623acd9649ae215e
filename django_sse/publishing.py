"""Sending events: append to the history, then ring the doorbell."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, TypedDict

from django.core.exceptions import SynchronousOnlyOperation

from django_sse.commits import Pending, after_commit, is_in_transaction
from django_sse.conf import get_settings
from django_sse.exceptions import EventError, HistoryError, PublishError, TopicError
from django_sse.hearing import ring
from django_sse.history import BaseHistory, BaseOutbox, get_history
from django_sse.positions import Cursor, Entry
from django_sse.signals import event_sent
from django_sse.topics import check_topic, user_topic
from django_sse.wire import Event, check_not_reserved


class _Keys(TypedDict):
    """By what an event is known."""

    key: str | None
    version: int | None
    idempotency_key: str | None


# How deep the culprit is looked for in data that is no JSON; it may be a circle.
_MAX_DEPTH: Final = 20
#: What ``to`` may be: a topic, a user, or several of these.
Recipients = Any


async def asend_event(
    to: Recipients,
    event: str,
    data: object = None,
    *,
    text: str | None = None,
    key: str | None = None,
    version: int | None = None,
    idempotency_key: str | None = None,
) -> None:
    """Send an event now; its arguments and errors are those of `send_event`."""
    topics, value = topics_of(to), make_event(event, data, text=text)
    await apublish(topics, value, key=key, version=version, idempotency_key=idempotency_key)


def send_event(
    to: Recipients,
    event: str,
    data: object = None,
    *,
    text: str | None = None,
    on_commit: bool = True,
    using: str = "default",
    key: str | None = None,
    version: int | None = None,
    idempotency_key: str | None = None,
) -> None:
    """Send an event to a topic, a user, or an iterable of these.

    ``data`` is encoded as JSON, ``text`` is sent as it is (line ends become LF). In a transaction of the
    database ``using`` it is sent after the commit, and not at all after a rollback; elsewhere at once. What
    fails then is logged, never raised. With ``on_commit=False`` it is sent now, and failures raise.

    ``key`` and ``version``: an event whose version is not above the last one of its key is dropped.
    ``idempotency_key``: two sendings with the same key are one event.

    Raises EventError for a name or data that cannot be sent, or that is larger than MAX_EVENT; TopicError
    for a wrong topic; PublishError where it could not be sent now; SynchronousOnlyOperation in a running
    event loop, where ``await asend_event()`` belongs.
    """
    check_no_loop("send_event()", "await asend_event()")
    topics, value = topics_of(to), make_event(event, data, text=text)
    publish(
        topics,
        value,
        on_commit=on_commit,
        using=using,
        key=key,
        version=version,
        idempotency_key=idempotency_key,
    )


async def apublish(
    topics: tuple[str, ...],
    event: Event,
    *,
    key: str | None,
    version: int | None,
    idempotency_key: str | None,
) -> None:
    """Send an event that is made already, a project's or this package's own, now."""
    _check_version(event.name, key, version)
    history = get_history()
    for topic in topics:
        try:
            entry = await history.aappend(
                topic, event, key=key, version=version, idempotency_key=idempotency_key
            )
        except HistoryError as error:
            raise _publish_error(event.name, topic) from error
        if entry is not None:
            ring(entry)
            await event_sent.asend_robust(sender=Entry, entry=entry)


def publish(
    topics: tuple[str, ...],
    event: Event,
    *,
    on_commit: bool,
    using: str,
    key: str | None,
    version: int | None,
    idempotency_key: str | None,
) -> None:
    """Send an event that is made already, a project's or this package's own, after the commit or now."""
    keys: _Keys = {"key": key, "version": version, "idempotency_key": idempotency_key}
    if on_commit:
        after_commit(prepare(topics, event, using=using, **keys), using)
    else:
        _check_version(event.name, key, version)
        _send(get_history(), topics, event, **keys)


def prepare(
    topics: tuple[str, ...],
    event: Event,
    *,
    using: str,
    key: str | None,
    version: int | None,
    idempotency_key: str | None = None,
) -> Pending:
    """Return an event that is made already as what waits for a commit; with OUTBOX it is written now."""
    _check_version(event.name, key, version)
    # A wrong configuration raises here, not after the commit, where it would only be logged.
    history = get_history()
    keys: _Keys = {"key": key, "version": version, "idempotency_key": idempotency_key}
    outbox = history.outbox if get_settings().OUTBOX else None
    if outbox is None or outbox.using != using or not is_in_transaction(using):
        return Pending(topics, event, partial(_send, history, topics, event, **keys))
    # Here it raises: what cannot be written belongs to a transaction that cannot be committed.
    numbers = outbox.store(topics, event, **keys)
    return Pending(topics, event, partial(_deliver, outbox, numbers, event.name), numbers=numbers)


def withdraw(pending: Pending) -> None:
    """Take back what was written into the outbox, in the same transaction: a later event stands for it."""
    if pending.numbers and (outbox := get_history().outbox) is not None:
        outbox.discard(pending.numbers)


async def aget_cursor(*topics: str) -> str:
    """Return where topics stand now, as the cursor that a stream resumes from."""
    return Cursor.of(await get_history().atail([check_topic(topic) for topic in topics])).encode()


def get_cursor(*topics: str) -> str:
    """Do what `aget_cursor` does."""
    return Cursor.of(get_history().tail([check_topic(topic) for topic in topics])).encode()


def topics_of(to: Recipients) -> tuple[str, ...]:
    """Return the topics of a topic, a user, or an iterable of these; raise TopicError for anything else."""
    if isinstance(to, str):
        return (check_topic(to),)
    if hasattr(to, "is_authenticated"):
        return (user_topic(to),)
    if isinstance(to, Iterable) and not isinstance(to, bytes):
        return tuple(dict.fromkeys(topic for one in to for topic in topics_of(one)))
    msg = f"an event cannot be sent to {to!r}: name a topic, a user, or an iterable of these"
    raise TopicError(msg)


def make_event(name: str, data: object = None, *, text: str | None = None) -> Event:
    """Return the event of these arguments; raise EventError where it cannot be sent."""
    if text is None:
        encoder = get_settings().JSON_ENCODER
        try:
            # ensure_ascii would triple the size of most of the world's texts.
            text = json.dumps(data, cls=encoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            msg = (
                f"{_culprit(data)} of event {name!r} is not JSON: {error}; send values that JSON has, or set "
                "DJANGO_SSE['JSON_ENCODER']"
            )
            raise EventError(msg) from error
    elif data is not None:
        msg = f"event {name!r} was given data and text: give one of them"
        raise EventError(msg)
    return _check_size(check_not_reserved(Event(name=name, text=text)))


def _culprit(value: object, path: str = "the data", depth: int = 0) -> str:
    """Return where in the data it is that JSON has not, and of what type."""
    items: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items if depth < _MAX_DEPTH else ():
        try:
            json.dumps(item, cls=get_settings().JSON_ENCODER, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return _culprit(item, f"{path}[{key!r:.60}]", depth + 1)
    return f"{path} ({type(value).__name__})"


def make_own_event(name: str, **data: object) -> Event:
    """Return an event of this package's own: projects cannot use its name, nor change its JSON."""
    return _check_size(Event(name=name, text=json.dumps(data, ensure_ascii=False, separators=(",", ":"))))


def _check_size(event: Event) -> Event:
    limit = get_settings().MAX_EVENT
    if len(event.block) > limit:
        msg = (
            f"event {event.name!r} has {len(event.block)} bytes, more than DJANGO_SSE['MAX_EVENT'] = "
            f"{limit}: send an id or an address that the page fetches, or raise the limit"
        )
        raise EventError(msg)
    return event


def _send(
    history: BaseHistory,
    topics: tuple[str, ...],
    event: Event,
    *,
    key: str | None,
    version: int | None,
    idempotency_key: str | None,
) -> None:
    for topic in topics:
        try:
            entry = history.append(topic, event, key=key, version=version, idempotency_key=idempotency_key)
        except HistoryError as error:
            raise _publish_error(event.name, topic) from error
        if entry is not None:
            _announce(entry)


def _deliver(outbox: BaseOutbox, numbers: Sequence[int], name: str) -> None:
    try:
        entries = outbox.deliver(numbers)
    except HistoryError as error:
        msg = f"event {name!r} was not sent yet, and stays in the outbox: the history does not answer"
        raise PublishError(msg) from error
    for entry in entries:
        _announce(entry)


def _announce(entry: Entry) -> None:
    ring(entry)
    event_sent.send_robust(sender=Entry, entry=entry)


def _publish_error(name: str, topic: str) -> PublishError:
    return PublishError(f"event {name!r} was not sent to {topic!r}: the history does not answer")


def _check_version(name: str, key: str | None, version: int | None) -> None:
    if (key is None) != (version is None):
        msg = f"event {name!r} was given key={key!r} and version={version!r}: give both or none"
        raise EventError(msg)


def check_no_loop(call: str, instead: str) -> None:
    """Raise SynchronousOnlyOperation in a running event loop, saying what belongs there instead."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    msg = f"{call} was called in a running event loop, which it would block: use `{instead}`"
    raise SynchronousOnlyOperation(msg)
