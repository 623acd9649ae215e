"""The figures as a table, and as a picture."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.bench.contenders import CONTENDERS

#: Column, figure and format.
COLUMNS: Final = (
    ("µs CPU per delivery", "cpu", "{:.1f}"),
    ("to bare", "ratio", "{:.2f}"),
    ("ten a turn: µs", "joined_cpu", "{:.2f}"),
    ("deliveries/s", "deliveries", "{:,.0f}"),
    ("p50 ms", "p50", "{:.1f}"),
    ("p99 ms", "p99", "{:.1f}"),
    ("connects/s", "connects", "{:,.0f}"),
    ("ms CPU per connect", "connect_ms", "{:.2f}"),
    ("kB per stream", "kilobytes", "{:.1f}"),
    ("threads per stream", "threads", "{:.2f}"),
    ("lost", "lost", "{:,.0f}"),
    ("out of order", "disordered", "{:,.0f}"),
    ("clients' core", "client_core", "{:.0%}"),
)
MANY: Final = (
    ("kB per stream", "many_kilobytes", "{:.1f}"),
    ("threads per stream", "many_threads", "{:.2f}"),
    ("connects/s, all at once", "storm_connects", "{:,.0f}"),
    ("page p99 ms meanwhile", "storm_p99", "{:.0f}"),
    ("µs CPU per delivery", "many_cpu", "{:.1f}"),
    ("page p99 ms in a broadcast", "broadcast_p99", "{:.0f}"),
    ("pages/s beside 4 events/s", "pages", "{:,.0f}"),
)
CROWD: Final = (
    ("streams", "crowd", "{:,.0f}"),
    ("kB per stream", "crowd_kilobytes", "{:.1f}"),
    ("connects/s", "crowd_connects", "{:,.0f}"),
    ("idle, of a core", "crowd_idle", "{:.1%}"),
    ("one event to all, s", "crowd_seconds", "{:.2f}"),
)

Medians = Mapping[str, dict[str, float]]


def table(medians: Medians, options: argparse.Namespace) -> str:
    """Return Markdown."""
    if "bare" in medians and medians["bare"]["cpu"]:  # none was seen in the clock's ticks of a short run
        for figures in medians.values():
            figures["ratio"] = figures["cpu"] / medians["bare"]["cpu"]
    named = {CONTENDERS[name].name: figures for name, figures in medians.items()}
    parts = [f"{options.streams:,} streams, bursts of {options.events} events", rows(named, COLUMNS)]
    if options.many:
        parts += [f"{options.many:,} streams", rows(named, MANY)]
    if options.crowd:
        crowds = {name: figures for name, figures in named.items() if "crowd" in figures}
        parts += [
            "One process, one topic (lean) and a topic of its own for each in Redis",
            rows(crowds, CROWD),
        ]
    return "\n\n".join(parts)


def rows(medians: Medians, columns: tuple[tuple[str, str, str], ...]) -> str:
    """Return a table in Markdown, of the figures by what their rows are called."""
    lines = [
        "| | " + " | ".join(column for column, _, _ in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, figures in medians.items():
        cells = [form.format(figures[key]) if key in figures else "" for _, key, form in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(medians: Medians, path: Path) -> None:
    """Draw cost and memory as bars; needs matplotlib."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (the smoke test does without)

    names = sorted(medians, key=lambda name: medians[name]["cpu"], reverse=True)
    labels = [CONTENDERS[name].name for name in names]
    colours = ["#0f766e" if label.startswith("django_sse") else "#94a3b8" for label in labels]
    figure = Figure(figsize=(10, 0.42 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, title in (
        (axes[0], "cpu", "µs of CPU per delivery"),
        (axes[1], "kilobytes", "kB per open stream"),
    ):
        bars = axis.barh(labels, [medians[name][key] for name in names], color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=4)
        axis.set_title(title, loc="left")
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=144, metadata={"Date": None} if path.suffix == ".svg" else None)
