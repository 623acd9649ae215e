"""What happens in one world: how many take part, and which faults there are, how often."""

from dataclasses import dataclass
from random import Random
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Seconds are virtual; a fault's seconds are the mean between two, None for never."""

    seconds: float = 30.0
    processes: int = 3
    clients: int = 5
    #: Until when the last client has come.
    arrival: float = 0.0
    topics: int = 4
    #: Publishers, by their events per second.
    rates: tuple[float, ...] = (1.0, 4.0, 15.0)
    #: The longest time a call to the history or the layer takes, one way.
    latency: float = 0.03
    #: Bytes that may wait for one client.
    max_pending: int = 900
    #: Entries that the history keeps of one topic: where it is small, trimming is a fault.
    length: int = 10_000

    # The layer: chances per message, and the longest delay, which reorders.
    loss: float = 0.0
    doubling: float = 0.0
    delay: float = 0.01
    foreign: float = 0.0
    blackout: float | None = None
    layer_error: float | None = None
    eviction: float | None = None

    # Processes, publishers and clients: chances per publication, seconds per kB that a slow client takes.
    crash: float | None = None
    stall: float | None = None
    silent_publication: float = 0.0
    cut: float | None = None
    pace: float = 0.0

    # The history; all but its outages and lost acknowledgements take entries away.
    outage: float | None = None
    lost_acknowledgement: float = 0.0
    rollback: float | None = None
    flush: float | None = None
    forgetting: float | None = None

    @classmethod
    def draw(cls, random: Random, *, history_faults: bool) -> Self:
        """Draw one with every fault, those that take entries away only where asked for."""
        taking = history_faults or None
        return cls(
            max_pending=random.choice([400, 900, 3000]),
            length=random.choice([25, 10_000]) if history_faults else 10_000,
            loss=random.choice([0.0, 0.05, 0.3]),
            doubling=0.1,
            delay=random.choice([0.02, 0.5, 2.0]),
            foreign=0.01,
            blackout=12.0,
            layer_error=14.0,
            eviction=6.0,
            crash=9.0,
            stall=20.0,
            silent_publication=0.1,
            cut=4.0,
            pace=random.choice([0.04, 0.4, 2.0, 8.0]),
            outage=15.0,
            lost_acknowledgement=0.1,
            rollback=taking and 11.0,
            flush=taking and 40.0,
            forgetting=taking and 20.0,
        )
