"""Walks what one client was told, against what really happened."""

import json
from dataclasses import dataclass, field
from enum import StrEnum

from django_sse.exceptions import CursorError
from django_sse.positions import Cursor, topic_hash
from django_sse.wire import Message
from tests.simulation.truth import Node, Truth


class Fault(StrEnum):
    """What may be wrong with a sequence."""

    LOSS = "loss"
    DOUBLE = "double, or out of order"
    FORK = "goes on from another past"
    RESTART = "starts afresh without a reset"
    CLAIM = "an id claims what was not received"
    SPURIOUS_RESET = "reset, though nothing was lost"
    STALE = "not converged"
    MALFORMED = "malformed"
    LEAK = "something is left behind"
    ERROR = "an error was logged"


#: What the first promise excludes, whatever breaks.
SILENT = frozenset({Fault.LOSS, Fault.DOUBLE, Fault.FORK, Fault.RESTART})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A fault, and where it was found."""

    fault: Fault
    who: str
    detail: str

    def __str__(self) -> str:
        return f"{self.who}: {self.fault}: {self.detail}"


@dataclass(slots=True, kw_only=True)
class Checker:
    """Follows one client: what it stands at in each topic, across its connections."""

    who: str
    truth: Truth
    findings: list[Finding] = field(default_factory=list)
    events: int = 0
    resets: int = 0
    last: dict[str, Node] = field(default_factory=dict)
    _texts: dict[str, set[str]] = field(default_factory=dict)

    def find(self, fault: Fault, detail: str) -> None:
        """Note a fault."""
        self.findings.append(Finding(fault=fault, who=self.who, detail=detail))

    def take(self, message: Message, *, before: str, topics: tuple[str, ...]) -> None:
        """Take the next message of a connection that follows these topics; ``before`` is the id before it."""
        if message.name == "sse-close":  # it may be all there is, and claims nothing
            if message.id != before:
                self.find(Fault.CLAIM, f"the id {message.id!r} of an end")
            return
        try:
            cursor = Cursor.parse(message.id)
            old = Cursor.parse(before) if before else Cursor(positions={})
        except CursorError as error:
            self.find(Fault.MALFORMED, str(error))
            return
        match message.name:
            case "sse-open":
                self._open(cursor, old, json.loads(message.text), topics)
            case "sse-reset":
                self._reset(cursor, json.loads(message.text))
            case "e":
                self._event(cursor, message.text)
            case name:
                self.find(Fault.MALFORMED, f"an event {name!r}")
        if set(cursor.positions) != {topic_hash(topic) for topic in topics}:
            self.find(Fault.MALFORMED, f"the id {message.id!r} is not of {topics}")
        for topic in topics:
            node = self.truth.at(topic, cursor.get(topic))
            if node is not None and node is not self.last.get(topic):
                self.find(Fault.CLAIM, f"{topic} at {node.offset}, in {message.name} {message.text[:40]}")

    def _open(self, cursor: Cursor, old: Cursor, data: dict[str, list[str]], topics: tuple[str, ...]) -> None:
        if data["topics"] != list(topics):
            self.find(Fault.MALFORMED, f"opened {data['topics']}, not {topics}")
        for topic in topics:
            if topic not in data["fresh"]:
                if cursor.get(topic) != old.get(topic):
                    self.find(Fault.CLAIM, f"{topic} was not resumed from where the client stood")
            elif old.get(topic) is not None:
                self.find(Fault.RESTART, topic)
            else:
                self._mark(topic, cursor)

    def _reset(self, cursor: Cursor, data: dict[str, list[str]]) -> None:
        for topic in data["topics"]:
            self.resets += 1
            if topic in self.last and not self.last[topic].lost:
                self.find(Fault.SPURIOUS_RESET, f"{topic} at {self.last[topic].offset}")
            self._mark(topic, cursor)

    def _mark(self, topic: str, cursor: Cursor) -> None:
        node = self.truth.at(topic, cursor.get(topic))
        if node is None:
            self.find(Fault.MALFORMED, f"{topic} goes on from where no entry ever was")
            self.last.pop(topic, None)
        else:
            self.last[topic] = node
        self._texts[topic] = set()

    def _event(self, cursor: Cursor, text: str) -> None:
        self.events += 1
        topic = text.partition("/")[0]
        node = self.truth.at(topic, cursor.get(topic))
        if node is None or node.text != text:
            self.find(Fault.MALFORMED, f"the id of {text[:40]} is another's")
            return
        last = self.last.get(topic)
        if last is None:
            self.find(Fault.MALFORMED, f"{text[:40]} of a topic that was not opened")
        elif node.previous is not last:
            detail = f"{topic}: {node.offset} behind {last.offset}"
            if node is last or last.descends_from(node):
                self.find(Fault.DOUBLE, detail)
            elif node.descends_from(last):
                self.find(Fault.LOSS, detail)
            else:
                self.find(Fault.FORK, detail)
        if text in self._texts.setdefault(topic, set()):
            self.find(Fault.DOUBLE, f"{topic}: {text[:40]} was published once")
        self._texts[topic].add(text)
        self.last[topic] = node
