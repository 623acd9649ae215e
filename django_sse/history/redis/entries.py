"""Entries as Redis stores them.

What somebody else wrote there is never an entry: it is logged, and answered as a loss.
"""

import logging
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

from django_sse.exceptions import EventError
from django_sse.history.base import Gone, Page, chain, draw_tag
from django_sse.positions import MAX_OFFSET, MAX_TAG, Entry, Position
from django_sse.wire import Event

logger = logging.getLogger(__name__)

_MAX_VERSION: Final = 2**63 - 1
# Keys longer than this are remembered by their hash.
_MAX_KEY: Final = 64


def draw_genesis() -> int:
    """Return the random tag of a log's beginning."""
    return draw_tag() or 1  # Redis has no id 0-0


def encode_position(position: Position) -> str:
    """Return the id of a position's entry."""
    return f"{position.offset}-{position.tag}"


def encode_key(key: str) -> bytes:
    """Return the name by which a key is remembered."""
    raw = key.encode(errors="surrogatepass")
    return b"=" + raw if len(raw) <= _MAX_KEY else b"~" + blake2b(raw, digest_size=24).digest()


def encode_version(key: str, version: int) -> bytes:
    """Return a version as bytes that compare as the number does."""
    if not -_MAX_VERSION <= version <= _MAX_VERSION:
        msg = f"version {version!r} of {key!r} does not fit into 64 bits: draw one by next_version()"
        raise ValueError(msg)
    # Never negative and of one length: Redis's Lua has no exact numbers of this size to compare.
    return b"%020d" % (version + _MAX_VERSION)


def decode_appended(topic: str, event: Event, tag: int, answer: Any) -> Entry | None:
    """Return the entry that an append made or found."""
    if answer is None:
        return None
    if isinstance(answer, list):  # the entry that the idempotency key made
        return next(_decode(topic, *answer))
    offset, previous, time = map(int, answer.split())
    return Entry(topic=topic, offset=offset, tag=tag, previous=previous, time=time / 1_000_000, event=event)


def decode_page(topic: str, position: Position, answer: list[Any]) -> Page | Gone:
    """Return what comes after a position, as far as each entry follows the one before it."""
    tail, *rest = answer
    if not rest:
        return Gone(tail=_position(tail))
    heads, bodies, more = rest
    return chain(position, _decode(topic, heads, bodies), tail=_position(tail), more=bool(more))


def decode_positions(
    topics: Collection[str], calls: Iterable[tuple[str, ...]], answers: Iterable[Any]
) -> dict[str, Position]:
    """Return the topics' positions in the order asked, from answers about some of the topics each."""
    found = {
        topic: _position(raw)
        for some, answer in zip(calls, answers, strict=True)
        for topic, raw in zip(some, answer, strict=True)
    }
    return {topic: found[topic] for topic in topics}


def _position(raw: bytes) -> Position:
    offset, _, tag = raw.partition(b"-")
    return Position(offset=int(offset), tag=int(tag))


def _decode(topic: str, heads: bytes, bodies: bytes) -> Iterator[Entry | None]:
    """Yield entries as they were appended, None for anything that `append` would not have written."""
    start = 0
    for head in heads.split(b",") if heads else ():
        try:
            place, previous, time, name_size, text_size = head.split(b" ")
            middle = start + int(name_size)
            end = middle + int(text_size)
            name, text = bodies[start:middle], bodies[middle:end]
            start = end
            position = _position(place)
            yield Entry(
                topic=topic,
                offset=_within(position.offset, MAX_OFFSET),
                tag=_within(position.tag, MAX_TAG),
                previous=_within(int(previous), MAX_TAG),
                time=_within(int(time), MAX_OFFSET) / 1_000_000,
                event=Event(name=name.decode(), text=text.decode()),
            )
        except (ValueError, EventError) as error:
            # Neither the payload nor an error that quotes it: who tampered must not write our log.
            logger.error("An entry of topic %r is damaged: %s", topic, type(error).__name__)  # noqa: TRY400
            yield None


def _within(number: int, maximum: int) -> int:
    if number > maximum:
        msg = "a number is not within its bounds"
        raise ValueError(msg)
    return number
