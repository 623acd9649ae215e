"""The text/event-stream format: what is written, and how it is read."""

import enum
import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_sse.exceptions import EventError
from django_sse.wire import HEARTBEAT, Event, Message, Parser, check_not_reserved, encode, encode_retry

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1)
#: Every character that something takes for a line's end; only the first three are.
LINE_ENDS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]
TEXTS = st.lists(
    st.one_of(
        st.sampled_from([*LINE_ENDS, " ", ":", "data: ", "\ufeff"]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    )
).map("".join)
EVENTS = st.builds(Event, name=st.one_of(st.just("message"), NAMES), text=TEXTS)
IDS = st.text(st.characters(max_codepoint=127, exclude_characters="\r\n\0"))
#: What a stream may be made of, well-formed and otherwise.
PIECES = st.one_of(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"\0", b"\xef\xbb\xbf", b": comment", b"7"]
        + [
            b"id",
            b"id:",
            b"id: a",
            b"id: 1~b",
            b"event",
            b"event: ",
            b"event:x",
            b"data",
            b"data:",
            b"data: y",
        ]
        + [
            b"retry",
            b"retry: ",
            b"retry:3000",
            b"retry: +5",
            b"retry: 1_0",
            b"unknown: z",
            b"Data: z",
            b" data: z",
        ]
        # Malformed: a lone continuation, half an emoji, an overlong slash, a surrogate, too far out.
        + [b"\x80", b"\xf0\x9f", b"\x98\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"]
        + [text.encode() for text in ("\u2028", "\x85", "é", "😀", "٣", "²")]
    ),
    st.binary(max_size=3),
)
LINES = st.builds(
    lambda name, value, end: name + value + end,
    st.sampled_from([b"data:", b"data: ", b"data", b"event: ", b"id: ", b"retry: ", b":", b"", b""]),
    st.sampled_from([b"", b"1", b"a", b"\xc3\xa9", b"\0"]),
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\r\n", b"\n\r"]),
)
STREAMS = st.lists(st.one_of(LINES, LINES, PIECES), max_size=40).map(b"".join)
#: Where a stream is cut into chunks, as fractions of its length.
CUTS = st.lists(st.floats(0, 1), max_size=10)


class Name(str, enum.Enum):  # noqa: UP042  (what projects wrote before StrEnum)
    """A project's names of events."""

    SAVED = "order-saved"


def chunks(stream: bytes, cuts: list[float]) -> list[bytes]:
    """Cut a stream, with an empty chunk at each cut."""
    places = sorted({0, len(stream), *(int(cut * len(stream)) for cut in cuts)})
    return [chunk for start, end in pairwise(places) for chunk in (b"", stream[start:end])]


@dataclass
class Read:
    """What a stream came to."""

    messages: list[Message] = field(default_factory=list)
    last_event_id: str = ""
    retry: float | None = None


def read(stream: bytes, cuts: list[float] | None = None, *, last_event_id: str = "") -> Read:
    """Read a stream with the parser, cut into chunks, or byte by byte."""
    parser = Parser(last_event_id=last_event_id)
    pieces = chunks(stream, cuts) if cuts is not None else [bytes([byte]) for byte in stream]
    messages = [message for piece in pieces for message in parser.feed(piece)]
    return Read(messages=messages, last_event_id=parser.last_event_id, retry=parser.retry)


# -- the standards' own algorithms, on the whole stream at once -------------------------------------------


def utf_8_decode(stream: bytes) -> str:
    """Decode as the Encoding Standard's UTF-8 decoder does (section 8.1.1), less one leading BOM."""
    text, code_point, needed, seen, lower, upper = [], 0, 0, 0, 0x80, 0xBF
    unread = list(stream.removeprefix(b"\xef\xbb\xbf"))
    while unread:
        byte = unread.pop(0)
        if needed == 0:
            if byte <= 0x7F:
                text.append(chr(byte))
            elif 0xC2 <= byte <= 0xDF:
                needed, code_point = 1, byte & 0x1F
            elif 0xE0 <= byte <= 0xEF:
                lower = 0xA0 if byte == 0xE0 else 0x80
                upper = 0x9F if byte == 0xED else 0xBF
                needed, code_point = 2, byte & 0xF
            elif 0xF0 <= byte <= 0xF4:
                lower = 0x90 if byte == 0xF0 else 0x80
                upper = 0x8F if byte == 0xF4 else 0xBF
                needed, code_point = 3, byte & 0x7
            else:
                text.append("\ufffd")
            continue
        if not lower <= byte <= upper:
            code_point, needed, seen, lower, upper = 0, 0, 0, 0x80, 0xBF
            unread.insert(0, byte)
            text.append("\ufffd")
            continue
        lower, upper = 0x80, 0xBF
        code_point = (code_point << 6) | (byte & 0x3F)
        seen += 1
        if seen == needed:
            text.append(chr(code_point))
            code_point = needed = seen = 0
    if needed:
        text.append("\ufffd")
    return "".join(text)


def interpret(stream: bytes) -> Read:
    """Interpret as WHATWG HTML does (sections 9.2.5 and 9.2.6); what the end cuts short is discarded."""
    result = Read()
    data, event_type, last_id = "", "", ""
    *lines, _ = re.split(r"\r\n|\n|\r", utf_8_decode(stream))
    for line in lines:
        if line == "":
            result.last_event_id = last_id
            if data != "":
                data = data.removesuffix("\n")
                result.messages.append(Message(name=event_type or "message", text=data, id=last_id))
            data, event_type = "", ""
        elif line.startswith(":"):
            pass
        else:
            name, value = line, ""
            if ":" in line:
                name, value = line.split(":", 1)
                value = value.removeprefix(" ")
            if name == "event":
                event_type = value
            elif name == "data":
                data += value + "\n"
            elif name == "id" and "\0" not in value:
                last_id = value
            elif name == "retry" and value and set(value) <= set("0123456789"):
                result.retry = int(value.lstrip("0")[:14] or "0") / 1000  # ours: a thousand years are enough
    return result


@given(STREAMS, CUTS)
@example(b"data: a\r\ndata: b\r\n\r\n", [8 / 19])
@example(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", [0.05])
@example(b"data: \xed\xa0\x80\n\n", [0.6])
@example(b"data\n\ndata\ndata\n\ndata:", [])
def test_the_parser_does_what_the_standard_says(stream: bytes, cuts: list[float]) -> None:
    """Whatever the bytes, and wherever they are cut, it gives what the standard's algorithm gives."""
    expected = interpret(stream)

    assert read(stream, cuts) == expected
    assert read(stream) == expected


@pytest.mark.parametrize(
    ("stream", "texts"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
         ["first event", "second event", " third event"]),
        (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
        (b"data:test\n\ndata: test\n\n", ["test", "test"]),
    ],
)  # fmt: skip
def test_the_examples_of_the_standard(stream: bytes, texts: list[str]) -> None:
    """The streams that the standard explains are read as it explains them."""
    assert [message.text for message in read(stream).messages] == texts
    assert interpret(stream).messages == read(stream).messages


# -- there and back ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(EVENTS, st.one_of(st.none(), IDS)), max_size=5), CUTS)
def test_every_event_comes_back(sent: list[tuple[Event, str | None]], cuts: list[float]) -> None:
    """What is encoded is parsed to the same events and ids, however the bytes are cut."""
    stream, expected, last_id = encode_retry(3), [], ""
    for event, event_id in sent:
        stream += encode(event, id=event_id) + HEARTBEAT
        last_id = last_id if event_id is None else event_id
        expected.append(Message(name=event.name, text=event.text, id=last_id))

    assert read(stream, cuts) == Read(messages=expected, last_event_id=last_id, retry=3)
    assert read(stream).messages == expected


@given(TEXTS)
def test_line_ends_become_lf(text: str) -> None:
    """CR LF and CR are written as LF, as the format has it, and every other character stays."""
    assert Event(text=text).text == text.replace("\r\n", "\n").replace("\r", "\n")
    assert Event(text=Event(text=text).text) == Event(text=text)


@pytest.mark.parametrize("end", LINE_ENDS[3:])
def test_other_line_ends_belong_to_the_text(end: str) -> None:
    """What only Python or JavaScript takes for a line's end is not cut there."""
    [message] = read(encode(Event(text=f"one{end}two"))).messages

    assert message.text == f"one{end}two"


@pytest.mark.parametrize(
    ("event", "block"),
    [
        (Event(text="hi"), b"data: hi\n"),
        (Event(text=""), b"data: \n"),
        (Event(name="order-updated", text="hi"), b"event: order-updated\ndata: hi\n"),
        (Event(text="one\r\ntwo\rthree\n"), b"data: one\ndata: two\ndata: three\ndata: \n"),
        (Event(name=" é", text=" :"), b"event:  \xc3\xa9\ndata:  :\n"),
    ],
)
def test_events_read_as_documented(event: Event, block: bytes) -> None:
    """An event line unless it is a message, a data line for each line, and a blank line at the end."""
    assert event.block == block
    assert encode(event) == block + b"\n"
    assert encode(event, id="7") == b"id: 7\n" + block + b"\n"


def test_a_retry_is_in_milliseconds() -> None:
    """Seconds are ours, milliseconds the format's."""
    assert encode_retry(3) == b"retry: 3000\n"
    assert read(encode_retry(0.0625)).retry == 0.062


def test_what_keeps_a_stream_alive_is_no_event() -> None:
    """Neither heartbeats nor retries end a block: some clients take every blank line for an event."""
    assert b"\n\n" not in HEARTBEAT + HEARTBEAT + encode_retry(3) + HEARTBEAT
    stream = HEARTBEAT + encode_retry(3) + b"data: a\n" + HEARTBEAT + encode_retry(4) + b"data: b\n\n"

    assert read(stream) == Read(messages=[Message(name="message", text="a\nb", id="")], retry=4)


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "telling"),
    [
        ("", "is empty: give it a name"),
        ("a\rb", "CR, LF or NUL, which would end its line: use letters, digits, dashes"),
        ("a\n", "CR, LF or NUL, which would end its line: use letters, digits, dashes"),
        ("\0", "CR, LF or NUL, which would end its line: use letters, digits, dashes"),
        ("a\ud800", "lone surrogate, which has no UTF-8: use letters, digits, dashes"),
        (None, "is a string, not None"),
        (b"order", "is a string, not b'order'"),
    ],
)
def test_wrong_names_are_refused(name: Any, telling: str) -> None:
    """A name that could not stand in its line is refused, never stripped, with what to use instead."""
    with pytest.raises(EventError, match=re.escape(telling)):
        Event(name=name, text="hi")


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("a\0b", "holds NUL: send it as data=, JSON escapes it"),
        ("a\udfff", r"holds the lone surrogate '\udfff', which has no UTF-8: mend or replace it"),
        (None, "is a string, not NoneType: use data="),
        (b"a", "is a string, not bytes: use data="),
        ({"a": 1}, "is a string, not dict: use data="),
    ],
)
def test_wrong_texts_are_refused(text: Any, telling: str) -> None:
    """A text that would not arrive as it is is refused with what to do instead."""
    with pytest.raises(EventError, match=re.escape(telling)) as caught:
        Event(name="order", text=text)

    assert "'order'" in str(caught.value)


@given(st.text(), st.text())
def test_any_strings_are_an_event_or_refused(name: str, text: str) -> None:
    """Nothing but EventError escapes, and an accepted event is one block of one event."""
    try:
        event = Event(name=name, text=text)
    except EventError:
        return
    assert read(encode(event)).messages == [Message(name=name, text=event.text, id="")]


@pytest.mark.parametrize("name", ["sse-", "sse-open", "sse-anything", "open", "error"])
def test_reserved_names_are_refused(name: str) -> None:
    """A project cannot send what this package or EventSource itself tells, and learns why."""
    event = Event(name=name, text="")

    assert event.reserved
    with pytest.raises(EventError, match=r"reserved: names starting with 'sse-' are this package's.*another"):
        check_not_reserved(event)


@pytest.mark.parametrize("name", ["message", "sse", "opened", "order-error", "Open", "close"])
def test_other_names_are_the_projects(name: str) -> None:
    """Names that only look like reserved ones may be sent."""
    event = Event(name=name, text="")

    assert not event.reserved
    assert check_not_reserved(event) is event


@pytest.mark.parametrize("event_id", ["a\nb", "a\r", "\0", "é", "\u2028", "\ud800"])
def test_wrong_ids_are_refused(event_id: str) -> None:
    """An id that could not come back in a header is refused."""
    with pytest.raises(EventError, match="could not come back in a header"):
        encode(Event(text="hi"), id=event_id)


def test_members_of_an_enum_are_their_values() -> None:
    """What arrives is the value, as it is in comparisons, and not the member's name."""
    event = Event(name=Name.SAVED, text=Name.SAVED)

    assert event.block == b"event: order-saved\ndata: order-saved\n"
    assert (type(event.name), type(event.text)) == (str, str)


def test_events_are_values() -> None:
    """Events with the same name and text are equal, hashable, and cannot be changed."""
    event = Event(name="order", text="a\rb")

    assert event == Event(name="order", text="a\nb") == replace(event)
    assert len({event, Event(name="order", text="a\nb")}) == 1
    with pytest.raises(AttributeError):
        event.text = "other"  # type: ignore[misc]


# -- the parser's own promises -------------------------------------------------------------------------


def test_an_id_lasts() -> None:
    """A block's id counts from its end on, for the blocks after it too, until another is set."""
    result = read(b"id: a\ndata: 1\n\ndata: 2\n\nid: b\n\ndata: 3\n\nid\ndata: 4\n\nid: c\ndata: 5\n")

    assert [message.id for message in result.messages] == ["a", "a", "b", ""]
    assert result.last_event_id == ""


def test_an_id_with_nul_is_ignored() -> None:
    """As the standard says; the one before stays."""
    result = read(b"id: a\n\nid: b\0\ndata: 1\n\n")

    assert [message.id for message in result.messages] == ["a"]


def test_a_parser_starts_from_the_id_that_it_is_given() -> None:
    """After a reconnect, events without an id still have the last one."""
    assert read(b"data: 1\n\n", last_event_id="1~a").messages == [Message(name="message", text="1", id="1~a")]
    assert Parser(last_event_id="1~a").last_event_id == "1~a"


def test_a_block_that_is_cut_short_is_discarded() -> None:
    """An event counts when its blank line has come, so a resume from the last id brings it again."""
    parser = Parser()

    assert list(parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")) == [
        Message(name="message", text="a", id="1")
    ]
    assert parser.last_event_id == "1"
    assert list(parser.feed(b"\n")) == [Message(name="message", text="b", id="2")]


def test_events_come_as_soon_as_their_bytes_do() -> None:
    """A CR ends a line at once, whether an LF follows or not."""
    parser = Parser()

    assert [message.text for message in parser.feed(b"data: a\r\r")] == ["a"]
    assert list(parser.feed(b"\n")) == []
    assert [message.text for message in parser.feed(b"data: b\r\n\r")] == ["b"]
    assert [message.text for message in parser.feed(b"\ndata: c\n\n")] == ["c"]


@pytest.mark.parametrize("digits", [b"9" * 5000, b"0" * 5000 + b"9" * 5000])
def test_an_endless_retry_is_a_number(digits: bytes) -> None:
    """More digits than Python converts neither fail nor wait less than centuries."""
    retry = read(b"retry: " + digits + b"\n", []).retry

    assert retry is not None
    assert 1e10 < retry < float("inf")


def test_a_long_line_in_small_chunks_stays_linear() -> None:
    """A megabyte that comes in pieces is put together once, at the line's end."""
    parser, piece = Parser(), b"x" * 64

    for _ in range(16_384):
        assert list(parser.feed(piece)) == []

    assert len(parser._tail) == 16_384
    assert list(parser.feed(b"\ndata\n\n")) == [Message(name="message", text="", id="")]
