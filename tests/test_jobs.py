"""What a job's progress says, and which of such events are superseded by later ones."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_sse.jobs import JobState, is_job_id, job_of, job_text, without_superseded
from django_sse.positions import Entry
from django_sse.wire import Event

STATES: Sequence[JobState] = ("running", "done", "failed")
IDS = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
LABELS = st.text(st.characters(exclude_categories=["Cs"]))
COUNTS = st.integers(min_value=0)

TEXT = '{"id":"a","label":"Import","done":1,"total":2,"percent":50,"state":"running"}'


def progress(id: str = "a", done: int = 0) -> Event:  # noqa: A002
    """Return a job's event."""
    return Event(name="progress", text=job_text(id=id, label="", done=done, total=None, state="running"))


def entries(*events: Event) -> list[Entry]:
    """Return the entries of a topic that has these events."""
    return [
        Entry(topic="t", offset=number + 1, tag=number + 1, previous=number, time=0, event=event)
        for number, event in enumerate(events)
    ]


@given(id=IDS, label=LABELS, done=COUNTS, total=st.none() | COUNTS, state=st.sampled_from(STATES))
def test_what_is_written_is_recognized(
    id: str,  # noqa: A002
    label: str,
    done: int,
    total: int | None,
    state: JobState,
) -> None:
    """Every job's text is JSON that says what it was given, and is known by its job."""
    text = job_text(id=id, label=label, done=done, total=total, state=state)
    data = json.loads(text)

    percent = data.pop("percent")
    assert data == {"id": id, "label": label, "done": done, "total": total, "state": state}
    assert (percent is None) == (total is None)
    assert job_of(Event(name="progress", text=text)) == id
    assert job_of(Event(name="process", text=text)) is None


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [
        (0, 3, 0),
        (1, 3, 33),
        (2, 3, 66),
        (3, 3, 100),
        (4, 3, 100),
        (999, 1000, 99),
        (0, 0, 100),
        (9, None, None),
    ],
)
def test_percent(done: int, total: int | None, percent: int | None) -> None:
    """The percents are 100 when all is done and not before, never more, and unknown where the total is."""
    text = job_text(id="a", label="", done=done, total=total, state="running")
    assert json.loads(text)["percent"] == percent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"id":"a"}',
        '{"id":"a","text":"a project\'s own"}',
        '{"id":5,"label":"","done":1,"total":2,"percent":50,"state":"running"}',
        '{"id":"a.b","label":"","done":1,"total":2,"percent":50,"state":"running"}',
        '{"id":"","label":"","done":1,"total":2,"percent":50,"state":"running"}',
        '{"id":"ä","label":"","done":1,"total":2,"percent":50,"state":"running"}',
        TEXT + " ",
        TEXT + "\n",
        TEXT + TEXT,
        " " + TEXT,
        TEXT[:-1],
        TEXT[:-1] + ',"more":1}',
        TEXT.replace("running", "paused"),
        TEXT.replace('"label":"Import"', '"label":"Im"port"'),
        TEXT.replace('"label":"Import"', '"label":"Import\\"'),
        TEXT.replace('"label":"Import"', '"label":"Im\nport"'),
        TEXT.replace('"label":"Import"', '"label":"Im\tport"'),
        TEXT.replace('"label":"Import"', '"label":{"a":"b"}'),
        TEXT.replace('"done":1', '"done":-1'),
        TEXT.replace('"done":1', '"done":1.5'),
        TEXT.replace('"done":1', '"done":null'),
        TEXT.replace('"done":1', '"done":\u0661'),
        TEXT.replace('"percent":50', '"percent":5000'),
        TEXT.replace(",", ", "),
        json.dumps(dict(sorted(json.loads(TEXT).items())), separators=(",", ":")),
        '{"id":"' + "a" * 65 + TEXT[8:],
        '{"id":"a","label":"' + '\\"' * 30_000,
        '{"id":"a","label":"' + "a" * 60_000,
    ],
)
def test_what_another_wrote_is_not_recognized(text: str) -> None:
    """A text that differs by one letter from what this package writes is the project's own."""
    assert job_of(Event(name="progress", text=TEXT)) == "a"
    assert job_of(Event(name="progress", text=text)) is None


@pytest.mark.parametrize("id", ["a", "A-1_b", "0", "a" * 64])
def test_ids(id: str) -> None:  # noqa: A002
    """What may be a part of an HTML id may be a job's."""
    assert is_job_id(id)


@pytest.mark.parametrize("id", ["", "a b", "a.b", "ä", "a\n", '"', "<", "a" * 65, 5, None, b"a"])
def test_ids_that_cannot_be(id: object) -> None:  # noqa: A002
    """What would need an escape somewhere may not."""
    assert not is_job_id(id)


def test_superseded() -> None:
    """Of each job the last event stays, in its place; all others stay as they are."""
    note, own = Event(text="note"), Event(name="progress", text='{"id":"a","done":1}')
    page = entries(
        progress("a", 1), note, own, progress("b", 1), progress("a", 2), own, progress("a", 3), note
    )

    assert without_superseded(page) == [page[1], page[2], page[3], page[5], page[6], page[7]]


def test_a_page_without_progress_is_the_very_same() -> None:
    """Nothing is copied where there is nothing to leave out."""
    for page in ([], entries(Event(text=TEXT), Event(name="message", text="a"))):
        assert without_superseded(page) is page


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=30))
def test_what_is_superseded_is_told_later(jobs: list[str | None]) -> None:
    """In any page: what is missing is a job's, of which more comes; and the last entry stays."""
    page = entries(*(Event(text="note") if job is None else progress(job, 1) for job in jobs))
    kept = list(without_superseded(page))

    assert kept[-1:] == page[-1:]
    assert kept == [entry for entry in page if entry in kept], "in order"
    for entry in page:
        job = job_of(entry.event)
        later = [other for other in page if other.offset > entry.offset and job_of(other.event) == job]
        assert (entry in kept) == (job is None or not later)
