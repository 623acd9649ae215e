"""A world of processes, clients, publishers and topics, whose every fault comes from one seed."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Final

from django_sse.conf import get_settings
from tests.simulation.cast import Cast
from tests.simulation.checker import Fault, Finding
from tests.simulation.clients import Client
from tests.simulation.clock import VirtualLoop
from tests.simulation.layer import Bus
from tests.simulation.plan import Plan
from tests.simulation.processes import Process
from tests.simulation.publishers import Publisher
from tests.simulation.truth import Truth

#: Seconds that a follower outlives its last stream in these worlds.
LINGER: Final = 3.0
#: The longest wait between two tries of anything in the product.
_BACKOFF: Final = 5.0
#: How long a client may need that reads at full speed again, a few entries at a time.
_LONGEST_BACKLOG: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a world."""

    seed: int
    plan: Plan
    findings: tuple[Finding, ...]
    events: int
    resets: int
    connects: int
    reads: int
    lost_messages: int
    #: Of every byte that was read, and when.
    transcript: str

    @property
    def faults(self) -> frozenset[Fault]:
        """The kinds of what was found."""
        return frozenset(finding.fault for finding in self.findings)

    def __str__(self) -> str:
        shown = "\n  ".join(str(finding) for finding in self.findings[:10])
        return f"seed {self.seed}, {len(self.findings)} findings:\n  {shown}\n{self.plan}"


class World:
    """One run."""

    def __init__(self, seed: int, plan: Plan, cast: Cast) -> None:
        self.seed = seed
        self.plan = plan
        self.truth = Truth()
        self.topics = tuple(f"topic-{number}" for number in range(plan.topics))
        self.random = Random(f"{seed} world")
        self.bus = Bus(plan=plan, random=Random(f"{seed} bus"))
        self.history = cast.history(plan=plan, random=Random(f"{seed} history"), truth=self.truth)
        self.calm = asyncio.Event()
        self.findings: list[Finding] = []
        self._cast = cast
        self._loop = asyncio.get_running_loop()
        self._transcript = blake2b(digest_size=16)
        self._started = 0
        self._processes = [self._start_process() for _ in range(plan.processes)]
        self._crashes: list[asyncio.Task[None]] = []

    # -- what those who live here use -----------------------------------------------------------

    def some_process(self, random: Random) -> Process | None:
        """Return one of the processes that live."""
        living = [process for process in self._processes if process.alive]
        return random.choice(living) if living else None

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the beginning of the calm."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.calm.wait()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something then, unless all is calm."""
        self._loop.call_later(seconds, lambda: None if self.calm.is_set() else act())

    def note(self, who: str, data: bytes) -> None:
        """Enter something in the transcript."""
        self._transcript.update(f"{self._loop.time()!r} {who} {len(data)}\n".encode())
        self._transcript.update(data)

    # -- faults ---------------------------------------------------------------------------------

    def _start_process(self) -> Process:
        self._started += 1
        return Process(f"process-{self._started}", cast=self._cast, history=self.history, bus=self.bus)

    def _crash(self) -> None:
        index = self.random.randrange(len(self._processes))
        process = self._processes[index]
        if process.alive:
            self._crashes.append(process.crash())
            self.later(self.random.uniform(0, 4), lambda: self._restart(index))

    def _restart(self, index: int) -> None:
        if not self._processes[index].alive:
            self._processes[index] = self._start_process()

    def _stall(self) -> None:
        assert isinstance(self._loop, VirtualLoop)
        self._loop.stall(self.random.uniform(0.2, 6))

    def _black_out(self) -> None:
        self.bus.dark_until = self._loop.time() + self.random.uniform(0, 6)

    def _break_layer(self) -> None:
        self.bus.break_connections(self._loop.time() + self.random.uniform(0, 3))

    def _take_history_down(self) -> None:
        self.history.down_until = self._loop.time() + self.random.uniform(0, 2)

    def _faults(self) -> tuple[tuple[float | None, Callable[[], None]], ...]:
        plan, chance = self.plan, self.random
        return (
            (plan.crash, self._crash),
            (plan.stall, self._stall),
            (plan.blackout, self._black_out),
            (plan.layer_error, self._break_layer),
            (plan.eviction, self.bus.evict),
            (plan.outage, self._take_history_down),
            (plan.rollback, lambda: self.history.roll_back(chance.randint(1, 4))),
            (plan.flush, lambda: self.history.flush(self.topics)),
            (plan.forgetting, lambda: self.history.forget(chance.choice(self.topics))),
        )

    async def _again_and_again(self, mean: float, act: Callable[[], None]) -> None:
        while True:
            await self.pause(self.random.expovariate(1 / mean))
            if self.calm.is_set():
                return
            act()
            self.note("fault", getattr(act, "__name__", "").encode())

    def _calm_down(self) -> None:
        self.calm.set()
        self.bus.dark_until = self.bus.broken_until = self.history.down_until = 0.0
        self.bus.loss = self.bus.doubling = self.bus.foreign = self.history.lost_acknowledgement = 0.0
        for index in range(len(self._processes)):
            self._restart(index)

    # -- the course -----------------------------------------------------------------------------

    async def run(self, errors: list[str]) -> Report:
        """Live through the faults, then the calm, then the end; ``errors`` are those that were logged."""
        clients = [Client(self, f"client-{number}") for number in range(self.plan.clients)]
        publishers = [Publisher(self, f"publisher-{n}", rate) for n, rate in enumerate(self.plan.rates)]
        following = [self._loop.create_task(client.run()) for client in clients]
        ending = [self._loop.create_task(publisher.run()) for publisher in publishers]
        for mean, act in self._faults():
            if mean is not None:
                ending.append(self._loop.create_task(self._again_and_again(mean, act)))
        await asyncio.sleep(self.plan.seconds)
        self._calm_down()
        await asyncio.gather(*ending, *self._crashes)
        check = get_settings().CHECK * 1.2
        await asyncio.sleep(check + _BACKOFF + self.plan.delay + 1)
        self._check_followers()
        await self._wait_for(clients)
        for task in following:
            task.cancel()
        for result in await asyncio.gather(*following, return_exceptions=True):
            if not isinstance(result, asyncio.CancelledError):
                self._find(Fault.ERROR, f"a client failed: {result!r}")
        await asyncio.sleep(LINGER + 2 * check)
        for process in self._processes:
            for remains in process.remains():
                self._find(Fault.LEAK, f"{process.name}: {remains}")
            await process.crash()
        for error in errors:
            self._find(Fault.ERROR, error)
        return self._report(clients)

    def _find(self, fault: Fault, detail: str) -> None:
        self.findings.append(Finding(fault=fault, who="world", detail=detail))

    def _check_followers(self) -> None:
        """See that a check period later each process stands where the history ends."""
        tails = self.history.tail(self.topics)
        for process in self._processes:
            for topic, follower in process.hub.followers.items():
                if follower.position != tails[topic]:
                    self._find(Fault.STALE, f"{process.name}: {topic} at {follower.position}")

    async def _wait_for(self, clients: list[Client]) -> None:
        """Give slow clients time for what waits for them; afterwards each must have everything."""
        tails = {topic: self.truth.at(topic, tail) for topic, tail in self.history.tail(self.topics).items()}
        end = self._loop.time() + _LONGEST_BACKLOG
        while behind := [(c, t) for c in clients for t in c.topics if c.checker.last.get(t) is not tails[t]]:
            if self._loop.time() >= end:
                break
            await asyncio.sleep(1)
        for client, topic in behind:
            last, tail = client.checker.last.get(topic), tails[topic]
            offsets = f"{last and last.offset} instead of {tail and tail.offset}"
            client.checker.find(Fault.STALE, f"{topic} at {offsets}")

    def _report(self, clients: list[Client]) -> Report:
        found = [finding for client in clients for finding in client.checker.findings]
        return Report(
            seed=self.seed,
            plan=self.plan,
            findings=(*found, *self.findings),
            events=sum(client.checker.events for client in clients),
            resets=sum(client.checker.resets for client in clients),
            connects=sum(client.connects for client in clients),
            reads=self.history.reads,
            lost_messages=self.bus.lost,
            transcript=self._transcript.hexdigest(),
        )
