"""The text/event-stream format.

Source: WHATWG HTML, section 9.2 "Server-sent events"
(https://html.spec.whatwg.org/multipage/server-sent-events.html). Encoding is stricter than the
standard asks: what could end a field or a block early is refused, never stripped.
"""

import codecs
import re
from dataclasses import dataclass

from django_sse.exceptions import EventError

CONTENT_TYPE = "text/event-stream"
#: A comment, which clients ignore and intermediaries take for life. No blank line ends it: httpx-sse (0.4)
#: takes one for an event when the stream has had an id before.
HEARTBEAT = b":\n"

# str.splitlines() also cuts at U+2028, U+0085 and others, which belong to the text.
_LINE_END = re.compile(r"\r\n|\r|\n")
_NEXT_DATA = "\ndata: "
_FORBIDDEN = re.compile(r"[\r\n\0]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
# int() refuses more than 4,300 digits, and a thousand years are enough.
_MAX_RETRY_DIGITS = 14
# EventSource fires these at its own handlers, whoever sent them.
_EVENTSOURCE_OWN = frozenset({"open", "error"})
RESERVED_PREFIX = "sse-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a browser sees: a name, and a text whose line ends are LF.

    Raises EventError where the name is empty or holds CR, LF or NUL, where the text holds NUL, or
    where either holds a lone surrogate, which UTF-8 cannot carry.
    """

    name: str = "message"
    text: str

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.text, str):
            msg = f"the text of event {self.name!r} is a string, not {type(self.text).__name__}: use data="
            raise EventError(msg)
        if "\0" in self.text:
            msg = f"the text of event {self.name!r} holds NUL: send it as data=, JSON escapes it"
            raise EventError(msg)
        if (surrogate := _SURROGATE.search(self.text)) is not None:
            msg = (
                f"event {self.name!r} holds the lone surrogate {surrogate[0]!r}, which has no UTF-8: "
                "mend or replace it"
            )
            raise EventError(msg)
        # Plain strings: a member of an enum would be written "Name.SAVED" in f-strings.
        object.__setattr__(self, "name", str.__str__(self.name))
        object.__setattr__(self, "text", _LINE_END.sub("\n", str.__str__(self.text)))

    @property
    def block(self) -> bytes:
        """The event and data lines, made anew at each call; the blank line that ends a block is not in it."""
        name = "" if self.name == "message" else f"event: {self.name}\n"
        return f"{name}data: {self.text.replace(chr(10), _NEXT_DATA)}\n".encode()

    @property
    def reserved(self) -> bool:
        """Tell whether the name belongs to this package or to EventSource itself."""
        return self.name.startswith(RESERVED_PREFIX) or self.name in _EVENTSOURCE_OWN


def check_not_reserved(event: Event) -> Event:
    """Return the event of a project; raise EventError where its name is reserved."""
    if event.reserved:
        msg = (
            f"event name {event.name!r} is reserved: names starting with 'sse-' are this package's, "
            "and 'open' and 'error' would fire EventSource's own handlers; choose another"
        )
        raise EventError(msg)
    return event


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        msg = f"an event's name is a string, not {name!r}"
        raise EventError(msg)
    if not name:
        msg = "an event's name is empty: give it a name such as 'order-updated'"
        raise EventError(msg)
    if _FORBIDDEN.search(name):
        msg = (
            f"event name {name!r} holds CR, LF or NUL, which would end its line: use letters, digits, dashes"
        )
        raise EventError(msg)
    if _SURROGATE.search(name):
        msg = f"event name {name!r} holds a lone surrogate, which has no UTF-8: use letters, digits, dashes"
        raise EventError(msg)


def encode(event: Event, *, id: str | None = None) -> bytes:  # noqa: A002  (the standard's word)
    """Encode one whole block; raise EventError where the id holds CR, LF or NUL."""
    if id is None:
        return event.block + b"\n"
    if _FORBIDDEN.search(id) or not id.isascii():
        msg = f"event id {id!r} holds CR, LF, NUL or is not ASCII: it could not come back in a header"
        raise EventError(msg)
    return b"id: " + id.encode("ascii") + b"\n" + event.block + b"\n"


def encode_retry(seconds: float) -> bytes:
    """Encode the reconnection time; the next block takes it along, so that no client sees an empty event."""
    return b"retry: %d\n" % round(seconds * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event as a parser dispatches it."""

    name: str
    text: str
    #: The last event id, which outlives the block that set it.
    id: str


class Parser:
    """Parse a stream incrementally, wherever its chunks are cut.

    `feed` bytes; iterate what it gives back. `last_event_id` and `retry` (seconds, None until the
    stream names one) stand as the stream has left them. A block that the stream's end cuts short is
    discarded, as the standard says.
    """

    def __init__(self, *, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: float | None = None
        # "Streams must be decoded using the UTF-8 decode algorithm": malformed bytes become U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._started = False
        self._after_cr = False
        self._tail: list[str] = []
        self._id = last_event_id
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Message]:
        """Take one chunk; return the messages that it completes."""
        messages = [self._take(line) for line in self._lines(self._decoder.decode(chunk))]
        return [message for message in messages if message is not None]

    def _lines(self, text: str) -> list[str]:
        if not self._started and text:
            # The standard: "strips one leading UTF-8 Byte Order Mark (BOM), if any".
            self._started = True
            text = text.removeprefix("\ufeff")
        if self._after_cr and text:
            # The LF of a CR LF whose CR ended the last chunk: that line was given already.
            self._after_cr = False
            text = text.removeprefix("\n")
        self._after_cr = self._after_cr or text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        if lines:
            # The unfinished line is kept in pieces: one long line in small chunks stays linear.
            lines[0] = "".join((*self._tail, lines[0]))
            self._tail.clear()
        if rest:
            self._tail.append(rest)
        return lines

    def _take(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if _DIGITS.fullmatch(value):
                self.retry = int(value.lstrip("0")[:_MAX_RETRY_DIGITS] or "0") / 1000
        return None

    def _dispatch(self) -> Message | None:
        # "Set the last event ID string [...] to the value of the last event ID buffer", data or none.
        self.last_event_id = self._id
        name, self._name = self._name, ""
        data, self._data = self._data, []
        if not data:
            return None
        return Message(name=name or "message", text="\n".join(data), id=self.last_event_id)
