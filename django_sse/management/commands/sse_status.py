"""Show what the processes of a site serve."""

import json
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from django_sse import layers
from django_sse.status import Report, gather_reports

_COUNTED: Final = (
    *("opened", "entries", "heals", "missed", "unsent", "spills", "refusals"),
    *("unversioned", "failed"),  # an older process's report has them not
)
#: Ends and resets that are shown of each process, the latest.
_INCIDENTS: Final = 10


class Command(BaseCommand):
    """Ask every process through the channel layer, and write what it tells."""

    help = "Show what each process serves: streams, topics, users, and why streams were ended or reset."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take how long to wait, and how to write."""
        parser.add_argument("--seconds", type=float, default=1.0, help="how long answers may take")
        parser.add_argument("--json", action="store_true", help="write the reports as they are")

    def handle(self, *, seconds: float, json: bool, **_: Any) -> None:
        """Write one paragraph for each process."""
        if layers.get_layer() is None:
            msg = (
                "No other process can be asked: CHANNEL_LAYERS names no layer that processes share. "
                "Hub.current().snapshot() and the metrics tell what the serving process knows."
            )
            raise CommandError(msg)
        reports = async_to_sync(gather_reports)(seconds=seconds)
        if json:
            self.stdout.write(_dump(reports))
        elif not reports:
            self.stdout.write("No process answered: none has had a stream yet, or the layer is down.")
        else:
            self.stdout.write("\n\n".join("\n".join(_lines(report)) for report in reports))


def _dump(reports: list[Report]) -> str:
    return json.dumps(reports, indent=2)


def _lines(report: Report) -> list[str]:
    staleness = "never" if report["staleness"] is None else f"{report['staleness']:.1f} s ago"
    lines = [
        f"{report['process']}: {report['streams']} streams on {report['followers']} topics",
        f"  last comparison with the history: {staleness}",
        f"  since its start: {_counts({name: report[name] for name in _COUNTED if name in report})}",
        f"  ended: {_counts(report['ends'])}",
        f"  reset: {_counts(report['resets'])}",
        f"  topics: {_counts(report['topics'])}",
        f"  users: {_counts(report['users'])}",
    ]
    for incident in report["incidents"][-_INCIDENTS:]:
        when = datetime.fromtimestamp(incident["time"], tz=UTC).strftime("%H:%M:%S")
        who = incident["user"] or "a visitor"
        what = f"{incident['kind']} ({incident['reason']})"
        lines.append(f"  {when} UTC {what}: {who}, {', '.join(incident['topics']) or 'no topics'}")
    return lines


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
