"""Topics, keys and entries as the database keeps them."""

import json
import logging
import secrets
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote

from django_sse.exceptions import EventError, TopicError
from django_sse.models import KEY_LENGTH
from django_sse.positions import MAX_OFFSET, MAX_TAG, TAG_BITS, Entry, Position
from django_sse.topics import CONTROL_TOPIC, check_topic
from django_sse.wire import Event

logger = logging.getLogger(__name__)

_MAX_VERSION: Final = 2**63 - 1
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")


def topic_key(topic: str) -> str:
    """Return a topic's key: no collation of a database takes two for one."""
    return _digest(topic.encode())


def _digest(name: bytes) -> str:
    return blake2b(name, digest_size=KEY_LENGTH // 2).hexdigest()


def topic_name(topic: str) -> str:
    """Return a topic's name for people, in ASCII."""
    return quote(topic, safe=_PRINTABLE)


def kept_key(kind: bytes, key: str) -> str:
    """Return the name by which a key of a kind is remembered."""
    return _digest(kind + key.encode(errors="surrogatepass"))


def check_version(key: str, version: int) -> int:
    """Return a version that a column takes; raise ValueError for any other."""
    if not -_MAX_VERSION <= version <= _MAX_VERSION:
        msg = f"version {version!r} of {key!r} does not fit into 64 bits: draw one by next_version()"
        raise ValueError(msg)
    return version


def draw_secret() -> int:
    """Return a random number that a column takes."""
    return secrets.randbits(63)


def genesis_of(topic: str, secret: int) -> Position:
    """Return where a topic stands before its first entry: nothing need be stored for it."""
    digest = blake2b(topic.encode(), key=b"%d" % secret, digest_size=TAG_BITS // 8).digest()
    return Position(offset=0, tag=int.from_bytes(digest))


def decode_entries(topic: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[Entry | None]:
    """Yield entries as they were appended, None for anything that `append` would not have written."""
    for offset, tag, previous, time, name, text in rows:
        try:
            if not (0 < offset <= MAX_OFFSET and 0 <= tag <= MAX_TAG and 0 <= previous <= MAX_TAG):
                msg = "a number is not within its bounds"
                raise ValueError(msg)  # noqa: TRY301
            yield Entry(
                topic=topic,
                offset=offset,
                tag=tag,
                previous=previous,
                time=time / 1_000_000,
                event=Event(name=bytes(name).decode(), text=bytes(text).decode()),
            )
        except (ValueError, EventError) as error:
            # Neither the payload nor an error that quotes it: who tampered must not write our log.
            logger.error("An entry of topic %r is damaged: %s", topic, type(error).__name__)  # noqa: TRY400
            yield None


def encode_notice(entry: Entry) -> str:
    """Return the text of a notification, which has room for 8000 bytes: a position, never the event."""
    return json.dumps([entry.topic, entry.offset, entry.tag])


def decode_notice(text: str) -> tuple[str, Position]:
    """Return what a notification announces; raise ValueError for anything else, for anybody may send some."""
    try:
        topic, offset, tag = json.loads(text)
        if topic != CONTROL_TOPIC:
            topic = check_topic(topic)
    except (TypeError, ValueError, RecursionError, TopicError) as error:
        msg = "a notification is malformed"
        raise ValueError(msg) from error
    if not (type(offset) is type(tag) is int and 0 <= offset <= MAX_OFFSET and 0 <= tag <= MAX_TAG):
        msg = "a notification has numbers out of bounds"
        raise ValueError(msg)
    return topic, Position(offset=offset, tag=tag)
