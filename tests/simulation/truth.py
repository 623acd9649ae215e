"""What really happened in the history, kept apart from it and never forgotten."""

from dataclasses import dataclass, field

from django_sse.positions import Entry, Position


@dataclass(slots=True, eq=False)
class Node:
    """One entry, or the beginning of a topic; identity, not tags, tells two apart."""

    offset: int
    text: str
    #: What it really follows, None for a beginning.
    previous: "Node | None"
    #: Whether the history has lost it.
    lost: bool = False

    def descends_from(self, other: "Node") -> bool:
        """Tell whether the other stands before this one."""
        node = self.previous
        while node is not None:
            if node is other:
                return True
            node = node.previous
        return False


@dataclass(slots=True)
class Truth:
    """Every entry there ever was, and what each really follows."""

    nodes: dict[tuple[str, Position], Node] = field(default_factory=dict)
    newest: dict[str, Node] = field(default_factory=dict)

    def at(self, topic: str, position: Position | None) -> Node | None:
        """Return what stands, or stood, at a position."""
        return None if position is None else self.nodes.get((topic, position))

    def begin(self, topic: str, position: Position) -> None:
        """Note a topic's beginning, where it is a new one."""
        if position.offset == 0:
            known = self.nodes.get((topic, position))
            if known is None or known.lost:
                self.nodes[topic, position] = Node(offset=0, text="", previous=None)

    def append(self, entry: Entry) -> None:
        """Note an entry."""
        if (entry.topic, entry.position) not in self.nodes:
            before = Position(offset=entry.offset - 1, tag=entry.previous)
            previous = self.nodes[entry.topic, before]
            self.nodes[entry.topic, entry.position] = Node(
                offset=entry.offset, text=entry.event.text, previous=previous
            )

    def lose_one(self, topic: str, position: Position) -> None:
        """Note that the history has lost an entry."""
        self.nodes[topic, position].lost = True

    def lose(self, topic: str, position: Position) -> None:
        """Note that the history has lost an entry and all before it."""
        node: Node | None = self.nodes[topic, position]
        while node is not None and not node.lost:
            node.lost = True
            node = node.previous
