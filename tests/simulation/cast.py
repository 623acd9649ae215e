"""The classes that a world runs: the product's, unless a test replaces one."""

from dataclasses import dataclass

from django_sse.followers import Follower
from django_sse.hub import Hub
from django_sse.streams import Stream
from tests.simulation.history import WorldHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays what."""

    history: type[WorldHistory] = WorldHistory
    follower: type[Follower] = Follower
    hub: type[Hub] = Hub
    stream: type[Stream] = Stream
