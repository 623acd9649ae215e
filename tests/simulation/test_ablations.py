"""The checker's own proof: whatever safeguard is taken out of the product, it notices."""

from functools import partial

import pytest

from tests.simulation import ablations
from tests.simulation.cast import Cast
from tests.simulation.checker import SILENT, Fault
from tests.simulation.plan import Plan
from tests.simulation.runs import run

#: Seeds after which the checker must have failed; most ablations fail with the first.
_SEEDS = 20
#: One fault, or none, for as long as it takes.
_short = partial(Plan, seconds=12.0)
_SLOW_CLIENTS = _short(max_pending=400, pace=4.0)
_LONG_WRITES = _short(max_pending=30_000, pace=1.0, cut=2.0, rates=(4.0, 4.0))
#: Many who come while little is sent, and stay: nothing but joining in time tells them of the last event.
_LATE_COMERS = _short(
    processes=6, clients=24, arrival=10.0, topics=16, rates=(1.0, 1.0, 1.0, 1.0), latency=1.0
)
_TRUSTING = Cast(follower=ablations.TrustingFollower, stream=ablations.TrustingStream)
_LATE = Cast(hub=ablations.LateJoiningHub, follower=ablations.UncheckedFollower)

_ABLATIONS = {
    "tags": (Cast(history=ablations.UntaggedHistory), _short(rollback=3.0, cut=4.0), SILENT),
    "gap check": (_TRUSTING, _short(loss=0.1, delay=0.5), {Fault.LOSS}),
    "healing": (Cast(follower=ablations.DeafFollower), _short(loss=0.1), {Fault.STALE}),
    "tail check": (Cast(follower=ablations.UncheckedFollower), _short(loss=0.9), {Fault.STALE}),
    "spill: drops instead": (Cast(stream=ablations.DroppingStream), _SLOW_CLIENTS, {Fault.LOSS}),
    "spill: one topic only": (Cast(stream=ablations.OneTopicSpillStream), _SLOW_CLIENTS, {Fault.LOSS}),
    "spill: ids too early": (Cast(stream=ablations.HastyStream), _LONG_WRITES, {Fault.LOSS}),
    "genesis in tail": (Cast(history=ablations.NoGenesisHistory), _short(), {Fault.SPURIOUS_RESET}),
    "genesis with a tag": (
        Cast(history=ablations.UntaggedGenesisHistory),
        _short(forgetting=1.0, cut=2.0, rates=(0.5, 1.0)),
        SILENT,
    ),
    "idempotency": (
        Cast(history=ablations.ForgetfulHistory),
        _short(lost_acknowledgement=0.1),
        {Fault.DOUBLE},
    ),
    "joining first, and the tail check": (_LATE, _LATE_COMERS, {Fault.STALE}),
}


@pytest.mark.parametrize(("cast", "plan", "expected"), _ABLATIONS.values(), ids=_ABLATIONS.keys())
def test_the_checker_fails_without(cast: Cast, plan: Plan, expected: frozenset[Fault]) -> None:
    """Without this safeguard the checker finds just what the safeguard prevents; with it, nothing."""
    reports = (run(seed, plan, cast) for seed in range(_SEEDS))
    report = next((report for report in reports if report.faults & expected), None)
    assert report is not None, f"none of {_SEEDS} seeds shows it"
    whole = run(report.seed, plan)
    assert not whole.findings, str(whole)


def test_joining_first_makes_up_for_the_tail_check() -> None:
    """Where no message is lost, a hub that joins first converges without any tail check."""
    for seed in range(10):
        report = run(seed, _LATE_COMERS, Cast(follower=ablations.UncheckedFollower))
        assert not report.findings, str(report)
