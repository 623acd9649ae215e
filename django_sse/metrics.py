"""Metrics for Prometheus, where `prometheus_client` is installed.

They are in its default registry, so whatever shows that shows them: sums over this process's event loops.
Metrics of this kind do not take part in `prometheus_client`'s mode for several processes: let each be asked.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from django_sse.counters import published
from django_sse.hub import Hub

_GAUGES = {"streams": "Open event streams.", "followers": "Topics that are followed."}
_COUNTERS = {
    "opened": "Streams that were opened.",
    "entries": "Entries that were taken to streams.",
    "heals": "Reads of the history because something did not follow.",
    "missed": "Entries that no doorbell had announced.",
    "spills": "Queues that were dropped because a client was slow.",
    "refusals": "Streams that were turned away.",
    "unsent": "Doorbells that the layer did not take.",
}
#: Of the process, with or without hubs.
_PUBLISHED = {
    "unversioned": "Model events that carry no version.",
    "failed": "Events that were not sent.",
}
_BY_REASON = {"ends": "Streams that the server ended.", "resets": "Resets that were sent."}


class HubCollector(Collector):
    """Asks the hubs when it is asked."""

    def collect(self) -> Iterator[Metric]:
        """Give one metric for each field of a `Snapshot`."""
        snapshots = [hub.snapshot() for hub in Hub.all()]
        for name, text in _GAUGES.items():
            total = sum(getattr(snapshot, name) for snapshot in snapshots)
            yield GaugeMetricFamily(f"django_sse_{name}", text, value=total)
        for name, text in _COUNTERS.items():
            total = sum(getattr(snapshot, name) for snapshot in snapshots)
            yield CounterMetricFamily(f"django_sse_{name}", text, value=total)
        for name, text in _PUBLISHED.items():
            yield CounterMetricFamily(f"django_sse_{name}", text, value=getattr(published, name))
        for name, text in _BY_REASON.items():
            family = CounterMetricFamily(f"django_sse_{name}", text, labels=["reason"])
            reasons = sum((Counter(getattr(snapshot, name)) for snapshot in snapshots), Counter[str]())
            for reason, count in reasons.items():
                family.add_metric([reason], count)
            yield family
        stale = [snapshot.staleness for snapshot in snapshots if snapshot.staleness is not None]
        staleness = GaugeMetricFamily(
            "django_sse_staleness_seconds", "Since the last comparison with the history that worked."
        )
        if stale:
            staleness.add_metric([], max(stale))
        yield staleness


def register() -> None:
    """Put them into the default registry, once."""
    with suppress(ValueError):  # they are there: a process may make its apps ready again
        REGISTRY.register(HubCollector())
