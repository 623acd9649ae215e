"""The progress of a job as an event, and which of these events a stream that comes back leaves out.

Each event says all there is to say of its job, so of those that were missed the last one is enough. That is
so for what this module has encoded, and for nothing else: a project may send "progress" of its own, whatever
stands in it, and has all of it delivered.
"""

import json
import re
from collections.abc import Sequence
from typing import Final, Literal

from django_sse.positions import Entry
from django_sse.wire import Event

NAME: Final = "progress"

JobState = Literal["running", "done", "failed"]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
# The whole text, to the letter: a look at its beginning would take another's event for one of these.
_TEXT = re.compile(
    rf"""
    \{{ "id":"(?P<id>{_ID.pattern})"
    ,"label":"(?: [^"\\\x00-\x1f] | \\. )*+"
    ,"done":[0-9]+
    ,"total":(?: [0-9]+ | null )
    ,"percent":(?: [0-9]{{1,3}} | null )
    ,"state":"(?: running | done | failed )"
    \}}
    """,
    re.VERBOSE,
)


def is_job_id(text: object) -> bool:
    """Tell whether a job may have this id: it may be a part of an HTML id, and of a selector."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def job_text(*, id: str, label: str, done: int, total: int | None, state: JobState) -> str:  # noqa: A002
    """Return the text of the event that says how far a job is."""
    percent = None if total is None else _percent(done, total)
    data = {"id": id, "label": label, "done": done, "total": total, "percent": percent, "state": state}
    # Not by JSON_ENCODER, which may write it in another way than `job_of` reads it.
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _percent(done: int, total: int) -> int:
    # Never 100 before all is done, and no more than that where more came than was said.
    return min(100, done * 100 // total) if total else 100


def job_of(event: Event) -> str | None:
    """Return the id of the job whose progress an event tells, None for every other event."""
    if event.name != NAME or (match := _TEXT.fullmatch(event.text)) is None:
        return None
    return match["id"]


def without_superseded(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries without those whose job tells more of its progress further on.

    What is left out needs no id of its own: the next one that is kept stands behind it, and whoever resumes
    from there has no need of it either. The last entry always stays: it is how far a stream has read.
    """
    if not any(entry.event.name == NAME for entry in entries):
        return entries
    kept: list[Entry] = []
    jobs: set[str] = set()
    for entry in reversed(entries):
        job = job_of(entry.event)
        if job is None:
            kept.append(entry)
        elif job not in jobs:
            jobs.add(job)
            kept.append(entry)
    kept.reverse()
    return kept
