"""How events are worded for clients that do not speak ours.

An event is worded once for all streams of a dialect that are about to get it. Positions and ids stay as they
are. Nothing here raises: what stands in the history may be anybody's.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from typing import Final, Self

from django.core.exceptions import BadRequest
from django.http import HttpRequest

from django_sse.positions import Batch, Entry
from django_sse.wire import HEARTBEAT, Event, encode

logger = logging.getLogger(__name__)

#: The reserved event that carries a fragment.
FRAGMENT: Final = "sse-fragment"
#: The name of a project's ``message`` where the front end would take that for HTML.
MESSAGE: Final = "sse-message"
#: Bytes up to which an entry is worded once for all streams that catch up, and how many are kept.
_SMALL: Final = 8192
_KEPT: Final = 128


class Dialect:
    """A wording of events, shared by all its streams."""

    def __init__(self, word: Callable[[Event], Event], *, heartbeat: bytes = HEARTBEAT) -> None:
        #: Returns an event in other words, or the same one.
        self.word = word
        self.heartbeat = heartbeat
        self._small = lru_cache(maxsize=_KEPT)(self._worded)

    def entry(self, entry: Entry) -> Entry:
        """Return the entry of the same position whose event is in other words."""
        return self._small(entry) if len(entry.frame) <= _SMALL else self._worded(entry)

    def batch(self, batch: Batch) -> Batch:
        """Return the batch of these entries, made once for all streams."""
        return batch.worded(self.entry)

    def _worded(self, entry: Entry) -> Entry:
        event = self.word(entry.event)
        return entry if event is entry.event else replace(entry, event=event)


def _in_envelope(event: Event) -> Event:
    letter = {"e": event.name, "d": event.text}
    return Event(text=json.dumps(letter, ensure_ascii=False, separators=(",", ":")))


#: For clients that see only messages: every event is one, which carries its name.
ENVELOPE: Final = Dialect(_in_envelope, heartbeat=encode(_in_envelope(Event(name="sse-heartbeat", text=""))))


# -- fragments -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """What a fragment's event says."""

    #: A CSS selector, of one line.
    target: str
    swap: str
    #: Empty where something is removed.
    html: str

    @classmethod
    def read(cls, event: Event) -> Self:
        """Read an event's text; raise ValueError or RecursionError where it is no fragment."""
        match json.loads(event.text):
            case {"target": str(target), "swap": str(swap), "html": str(html)} if (
                target.strip() and swap in _HTMX
            ):
                pass
            case _:
                msg = "a fragment has a target, a swap and HTML"
                raise ValueError(msg)
        # CSS and HTML both read NUL so, and a line's end in a selector is a space.
        target, html = (text.replace("\0", "\ufffd") for text in (target, html))
        target = _CSS_LINE_END.sub(" ", target).strip()
        return cls(target=target, swap=swap, html="" if swap == "remove" else html)


_CSS_LINE_END = re.compile(r"[\r\n\f]")
#: Nothing but comments before it. Atomic: it never goes back into comments, however many there are.
_FIRST_TAG = re.compile(r"(?>[ \t\r\n\f]*(?:<!--.*?-->[ \t\r\n\f]*)*)<([a-zA-Z][^ \t\r\n\f/>]*)", re.DOTALL)
#: What the parser allows these in.
_PARENTS: Final = {
    "tr": "tbody",
    "td": "tr",
    "th": "tr",
    "col": "colgroup",
    **dict.fromkeys(("tbody", "thead", "tfoot", "caption", "colgroup"), "table"),
}
#: Our swaps, and htmx's words for them.
_HTMX: Final = {
    "append": "beforeend",
    "prepend": "afterbegin",
    "before": "beforebegin",
    "after": "afterend",
    "replace": "outerHTML",
    "html": "innerHTML",
    "remove": "delete",
}


def _turbo(fragment: Fragment) -> Event:
    action = "update" if fragment.swap == "html" else fragment.swap
    content = "" if fragment.swap == "remove" else f"<template>{fragment.html}</template>"
    return Event(
        text=f'<turbo-stream action="{action}" targets="{escape(fragment.target)}">{content}</turbo-stream>'
    )


def _htmx4(fragment: Fragment) -> Event:
    target, swap = escape(fragment.target), _HTMX[fragment.swap]
    return Event(text=f'<hx-partial hx-target="{target}" hx-swap="{swap}">{fragment.html}</hx-partial>')


def _htmx2(fragment: Fragment) -> Event:
    """Word it as an out-of-band swap: htmx 2 has had partials only since 2.0.11."""
    html = fragment.html
    first = _FIRST_TAG.match(html)
    if fragment.swap == "remove":
        text = _beside(fragment, "delete")
    elif fragment.swap != "replace":
        # It swaps what is in the element that says so, which the parser must let hold it.
        parent = "div" if first is None else _PARENTS.get(first[1].lower(), "div")
        text = _beside(fragment, _HTMX[fragment.swap], html, parent=parent)
    elif first is None:
        # What begins with text has no element to say it.
        text = _beside(fragment, "afterend", html) + _beside(fragment, "delete")
    else:
        # Here it swaps the element itself; of an attribute that stands twice the parser takes the first.
        text = f"<{first[1]} {_out_of_band(fragment, 'outerHTML')}{html[first.end() :]}"
    return Event(name=FRAGMENT, text=text)


def _beside(fragment: Fragment, style: str, html: str = "", *, parent: str = "div") -> str:
    return f"<{parent} {_out_of_band(fragment, style)}>{html}</{parent}>"


def _out_of_band(fragment: Fragment, style: str) -> str:
    return f'hx-swap-oob="{style}:{escape(fragment.target)}"'


def _datastar(fragment: Fragment) -> Event:
    lines = [f"mode {'inner' if fragment.swap == 'html' else fragment.swap}", f"selector {fragment.target}"]
    if fragment.html:
        lines += [f"elements {line}" for line in _LINE_END.split(fragment.html)]
    return Event(name="datastar-patch-elements", text="\n".join(lines))


_LINE_END = re.compile(r"\r\n|\r|\n")


def _fragments(word: Callable[[Fragment], Event], *, message: str | None = None) -> Dialect:
    """Return the dialect that words fragments so, leaves other events alone, and renames ``message``."""

    def word_any(event: Event) -> Event:
        if event.name == FRAGMENT:
            try:
                return word(Fragment.read(event))
            except (ValueError, RecursionError) as error:
                logger.warning("A fragment in the history is none: %s", error)
                return Event(name=FRAGMENT, text="")
        if event.name == "message" and message is not None:
            return Event(name=message, text=event.text)
        return event

    return Dialect(word_any)


#: Turbo and htmx 4 take every message for HTML, which a project's own text or JSON is not.
DIALECTS: Final[Mapping[str, Dialect]] = {
    "turbo": _fragments(_turbo, message=MESSAGE),
    "htmx2": _fragments(_htmx2),
    "htmx4": _fragments(_htmx4, message=MESSAGE),
    "datastar": _fragments(_datastar),
}

# -- what a request asks for ---------------------------------------------------------------------------

#: By what front ends announce themselves. Where htmx 2 and Turbo follow streams, they have EventSource, which
#: sends no headers.
_HEADERS: Final = {"HX-Request": "htmx4", "Datastar-Request": "datastar"}


def envelope_of(request: HttpRequest) -> Dialect | None:
    """Return the envelope where a request asks for it."""
    return ENVELOPE if request.GET.get("envelope") == "1" else None


def dialect_of(request: HttpRequest) -> Dialect | None:
    """Return the dialect that a request asks for, else that of the front end which it comes from, if any.

    Raises BadRequest for a dialect that is none, or in an envelope.
    """
    envelope, name = envelope_of(request), request.GET.get("dialect")
    if name is None:
        headers = (known for header, known in _HEADERS.items() if header in request.headers)
        name = next(headers, None)
        return envelope or (None if name is None else DIALECTS[name])
    if name not in DIALECTS:
        msg = f"No dialect is called {name[:40]!r}: there are {', '.join(DIALECTS)}."
        raise BadRequest(msg)
    if envelope is not None:
        msg = "No front end reads its dialect in envelopes: ask for one of them."
        raise BadRequest(msg)
    return DIALECTS[name]
