"""Places in a history, and the cursor that carries them."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_sse.exceptions import CursorError
from django_sse.positions import (
    MAX_CURSOR,
    MAX_CURSOR_TOPICS,
    MAX_OFFSET,
    MAX_TAG,
    Batch,
    Cursor,
    Entry,
    Position,
    encode_segment,
    frame,
    topic_hash,
)
from django_sse.topics import RESERVED_PREFIX
from django_sse.wire import Event, Message, Parser, encode

OFFSETS = st.integers(0, MAX_OFFSET)
TAGS = st.integers(0, MAX_TAG)
POSITIONS = st.builds(Position, offset=OFFSETS, tag=TAGS)
TOPICS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=20).filter(
    lambda topic: not topic.startswith(RESERVED_PREFIX)
)
ENTRIES = st.builds(
    Entry,
    topic=TOPICS,
    offset=st.integers(1, MAX_OFFSET),
    tag=TAGS,
    previous=TAGS,
    time=st.floats(0, 2**40),
    event=st.builds(Event, name=TOPICS, text=TOPICS),
)
#: What is almost a cursor.
NEARLY = st.lists(
    st.one_of(
        st.sampled_from(
            ["1", "2", "~", ".", "0", "00", "AbCdEf12", "0123456789", "ABCDEF0123", "\n", " ", "٣"]
        ),
        st.builds(lambda position: encode_segment("orders", position).decode(), POSITIONS),
        st.text(max_size=2),
    )
).map("".join)

ORDERS = Position(offset=42, tag=0x0123456789)


def entry(**changes: object) -> Entry:
    """Return an entry of the topic orders."""
    values = {
        "topic": "orders",
        "offset": 42,
        "tag": 7,
        "previous": 6,
        "time": 1.0,
        "event": Event(text="hi"),
    }
    return Entry(**values | changes)  # type: ignore[arg-type]


# -- the cursor ----------------------------------------------------------------------------------------


def test_a_cursor_reads_as_documented() -> None:
    """The version, then for each topic its hash, the offset in decimal and the tag in hexadecimal."""
    cursor = Cursor.of({"orders": ORDERS, "room.5": Position(offset=0, tag=MAX_TAG)})

    assert cursor.encode() == f"1~{topic_hash('orders')}.42.0123456789~{topic_hash('room.5')}.0.ffffffffff"


def test_the_hash_of_a_topic_never_changes() -> None:
    """Cursors outlive the process, and the release, that wrote them."""
    assert (topic_hash("orders"), topic_hash("тема")) == ("_rXN5HBX", "g9vkfhxW")


def test_a_cursor_of_no_topics_is_its_version() -> None:
    """Nothing is a value too, and comes back as itself."""
    assert Cursor.of({}).encode() == "1"
    assert Cursor.parse("1") == Cursor(positions={})


@given(st.dictionaries(TOPICS, POSITIONS, max_size=32))
def test_a_cursor_comes_back_whole(positions: dict[str, Position]) -> None:
    """What is encoded parses to the same positions, each found by its topic."""
    cursor = Cursor.parse(Cursor.of(positions).encode())

    assert cursor == Cursor.of(positions)
    assert {topic: cursor.get(topic) for topic in positions} == positions


@given(st.dictionaries(TOPICS, POSITIONS, max_size=32))
def test_a_cursor_needs_no_quoting(positions: dict[str, Position]) -> None:
    """It stands in a URL, a header and an id as it is."""
    assert re.fullmatch(r"[A-Za-z0-9._~-]+", Cursor.of(positions).encode())


@given(st.one_of(NEARLY, NEARLY.map("1~".__add__), st.text()))
@example("1~AbCdEf12.42.0123456789\n")
@example(f"1~AbCdEf12.{MAX_OFFSET}.0123456789")
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing but CursorError escapes, and what parses is what `encode` writes."""
    try:
        cursor = Cursor.parse(text)
    except CursorError:
        return
    assert cursor.encode() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "1~",
        "~",
        "11",
        " 1",
        "1\n",
        "0~AbCdEf12.42.0123456789",
        "1AbCdEf12.42.0123456789",
        "1~AbCdEf12.42.0123456789~",
        "1~~AbCdEf12.42.0123456789",
        "1~AbCdEf12.42.0123456789\n",
        "1~AbCdEf1.42.0123456789",
        "1~AbCdEf12.042.0123456789",
        "1~AbCdEf12.-42.0123456789",
        "1~AbCdEf12.٣.0123456789",
        "1~AbCdEf12.42.ABCDEF0123",
        "1~AbCdEf12.42.012345678",
        "1~AbCdEf12.42.0123456789a",
        "1~AbCdEf12.42",
        "1~AbCdEf1é.42.0123456789",
        f"1~AbCdEf12.{MAX_OFFSET + 1}.0123456789",
        f"1~AbCdEf12.{10**16}.0123456789",
        "1~AbCdEf12.42.0123456789~AbCdEf12.43.0123456789",
    ],
)
def test_what_encode_would_not_write_is_refused(text: str) -> None:
    """There is one spelling of a cursor, so nobody can hide two behind it."""
    with pytest.raises(CursorError):
        Cursor.parse(text)


def test_an_overlong_cursor_is_refused_unread() -> None:
    """A header's worth is all that is looked at, and the message does not repeat what was sent."""
    with pytest.raises(CursorError, match="longer than 4096") as caught:
        Cursor.parse("1" + "~" * MAX_CURSOR)

    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("text", ["2" * 4000, "1~" + "x" * 4000])
def test_a_refusal_quotes_little(text: str) -> None:
    """What a client sent enters the log in an excerpt only."""
    with pytest.raises(CursorError) as caught:
        Cursor.parse(text)

    assert len(str(caught.value)) < 120


def test_the_longest_cursor_still_parses() -> None:
    """As many topics as the settings allow fit, at the largest offsets."""
    largest = Position(offset=MAX_OFFSET, tag=MAX_TAG)
    text = Cursor.of({f"topic.{number}": largest for number in range(MAX_CURSOR_TOPICS)}).encode()

    assert len(text) <= MAX_CURSOR
    assert len(Cursor.parse(text).positions) == MAX_CURSOR_TOPICS


def test_a_cursor_without_the_topic_has_no_position() -> None:
    """A topic that the client never followed starts fresh."""
    assert Cursor.of({"orders": ORDERS}).get("room.5") is None


# -- entries -------------------------------------------------------------------------------------------


def test_an_entry_follows_only_what_it_was_appended_to() -> None:
    """Both the offset and the tag of the position before must fit."""
    assert entry().follows(Position(offset=41, tag=6))
    assert not entry().follows(Position(offset=41, tag=5))
    assert not entry().follows(Position(offset=40, tag=6))
    assert not entry().follows(Position(offset=42, tag=7))


def test_entries_are_compared_by_what_they_say() -> None:
    """An entry that came through a layer equals the one in the history."""
    assert entry() == entry()
    assert entry() != entry(tag=8)
    assert replace(entry(), offset=43).position == Position(offset=43, tag=7)


@given(ENTRIES)
def test_an_entry_carries_its_own_cursor(given: Entry) -> None:
    """Its ready-made bytes are the block that `encode` would write with the cursor of its position."""
    cursor = Cursor.of({given.topic: given.position}).encode()

    assert given.position == Position(offset=given.offset, tag=given.tag)
    assert given.segment.decode() == cursor[1:]
    assert given.frame == encode(given.event, id=cursor)


@given(ENTRIES, st.dictionaries(TOPICS, POSITIONS, max_size=4), st.integers(min_value=1, max_value=4))
def test_entries_stand_beside_other_topics(first: Entry, others: dict[str, Position], count: int) -> None:
    """In a stream of several topics each one's id is the whole cursor, its own topic first."""
    others.pop(first.topic, None)
    segments = [encode_segment(topic, position) for topic, position in others.items()]
    start = min(first.offset, MAX_OFFSET - count)
    entries = [replace(first, offset=start + number) for number in range(count)]

    batch = Batch(entries)

    assert (batch.topic, batch.count) == (first.topic, count)
    assert (batch.position, batch.segment) == (entries[-1].position, entries[-1].segment)
    assert batch.frames == b"".join(entry.frame for entry in entries)
    cursors = [Cursor.of({entry.topic: entry.position, **others}) for entry in entries]
    for _ in range(2):  # once made, and once ready-made
        blocks = batch.frames_beside(b"".join(segments))
        assert (
            blocks
            == b"".join(encode(first.event, id=cursor.encode()) for cursor in cursors)
            == b"".join(frame([entry.segment, *segments], first.event.block) for entry in entries)
        )
    messages = Parser().feed(blocks)
    assert messages == [
        Message(name=first.event.name, text=first.event.text, id=cursor.encode()) for cursor in cursors
    ]
    assert [Cursor.parse(message.id) for message in messages] == cursors


def test_a_batch_is_worded_once_for_all_who_want_the_same_words() -> None:
    """Each wording has its own, of the same positions; the batch itself stays as it is."""
    asked = []

    def louder(entry: Entry) -> Entry:
        asked.append(entry)
        return replace(entry, event=Event(text=entry.event.text + "!"))

    def softer(entry: Entry) -> Entry:
        return replace(entry, event=Event(text=entry.event.text.lower()))

    batch = Batch([entry(), entry(offset=43, previous=7, tag=8)])
    first, second = batch.worded(louder), batch.worded(louder)

    assert first is second
    assert asked == batch.entries
    assert [one.event.text for one in first.entries] == ["hi!", "hi!"]
    assert (first.topic, first.position, first.segment) == (batch.topic, batch.position, batch.segment)
    assert batch.worded(softer).frames == batch.frames
