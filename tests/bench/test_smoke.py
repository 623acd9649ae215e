"""The benchmarks of the promise run, and say what they should; what they measure is not judged here."""

import argparse
import json
import logging
import os
import re
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.bench import appends, contenders, deliveries, drops, report, sends, staleness, topics
from tests.bench.fleet import Fleet, FleetError
from tests.bench.sites import sender
from tests.bench.sites.order import text_of

pytestmark = pytest.mark.servers


def test_drops(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run delivers everything, and says so."""
    drops.main(["--clients=4", "--events=200", "--rate=100", "--every=0.5", "--away=0.2"])

    printed = capsys.readouterr().out
    assert "100.00 % of 800" in printed
    assert printed.count(" 0\n") >= 3


def test_appends(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run has a rate for each way."""
    appends.main(["--events=1000", "--rounds=1"])

    assert capsys.readouterr().out.count("events/s\n") == 5


def test_topics(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run has a line for each way to keep them; small nodes take less memory."""
    topics.main(["--topics=2000", "--rounds=1"])

    usual, small = re.findall(r": ([\d,]+) bytes a topic", capsys.readouterr().out)
    assert int(small.replace(",", "")) < int(usual.replace(",", ""))


def test_sends(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run has a row for each sender that is installed with the tests, and loses no doorbell."""
    sends.main(["--calls=50", "--rounds=2", "--only=memory,redis,postgres"])

    printed = capsys.readouterr()
    assert "| django_sse, memory | " in printed.out
    [redis] = [line for line in printed.out.splitlines() if line.startswith("| django_sse, Redis | ")]
    assert redis.endswith(" | 0 |")
    assert "django_sse, PostgreSQL" in printed.out + printed.err  # measured, or left out


def test_sends_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sender that cannot be imported is left out, and it is said why."""
    gone = {"DJANGO_SSE": {"HISTORY": {"BACKEND": "django_sse.history.gone.History"}}}
    history = sends.Sender(name="a history", package="django_sse", settings=lambda _: gone)
    monkeypatch.setattr(sends, "SENDERS", {"gone": history})
    sends.main(["--only=gone", "--rounds=1"])

    told = "a history is left out: No module named 'django_sse.history.gone'"
    assert told in capsys.readouterr().err


def test_sends_takes_no_failure_for_a_figure() -> None:
    """Where sending fails, which `send_event` logs, the run ends."""
    fatal = sender.Fatal(logging.ERROR)
    record = logging.LogRecord("django_sse", logging.ERROR, "", 0, "not sent", None, None)
    with pytest.raises(RuntimeError, match="not sent"):
        fatal.handle(record)


def test_staleness(capsys: pytest.CaptureFixture[str]) -> None:
    """With the layer dead every event comes."""
    staleness.main(["--check=0.5", "--events=20", "--rate=20"])

    assert "20 events, CHECK 0.5 s, layer dead" in capsys.readouterr().out


def test_deliveries(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A run of seconds measures each figure of what is installed with the tests, and loses nothing."""
    found = tmp_path / "figures.json"
    options = ["--streams=20", "--many=30", "--crowd=40", "--events=4", "--seconds=0.2", "--rounds=1"]
    deliveries.main([*options, "--only=bare,lean,core", f"--json={found}"])

    figures = json.loads(found.read_text())
    assert set(figures) == {"bare", "lean", "core"}
    for rounds in figures.values():
        assert all(each.get("lost", 0) == each.get("disordered", 0) == 0 for each in rounds)
        assert set().union(*rounds) >= {"cpu", "joined_cpu", "p99", "kilobytes", "threads", "broadcast_p99"}
    assert "crowd_idle" in set().union(*figures["lean"], *figures["core"])
    assert "| django_sse, lean | " in capsys.readouterr().out


def test_servers_and_clients_have_a_core_each() -> None:
    """Who is pinned already can still start a server on the other core."""
    cores = os.sched_getaffinity(0)
    with contenders.pinned(deliveries.CLIENTS):
        clients = os.sched_getaffinity(0)
        with contenders.pinned(deliveries.SERVER):
            server = os.sched_getaffinity(0)
    assert len(clients) == len(server) == 1
    assert (clients != server) or len(cores) == 1
    assert os.sched_getaffinity(0) == cores


def test_a_loss_in_one_round_is_seen() -> None:
    """The median of the rounds is no answer to whether anything was lost."""
    rounds: list[dict[str, float]] = [{"cpu": 1, "lost": 0}, {"cpu": 3, "lost": 5}, {"cpu": 2, "lost": 0}]

    assert deliveries.median(rounds) == {"cpu": 2, "lost": 5}


def test_a_run_too_short_for_the_clock() -> None:
    """Where no processor time was seen, the table has no ratios, and is there all the same."""
    options = argparse.Namespace(streams=1, events=1, many=0, crowd=0)

    assert "| bare ASGI | 0.0 |  |" in report.table({"bare": {"cpu": 0.0}, "lean": {"cpu": 10.0}}, options)


def test_deliveries_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who is not installed is left out, and said how to install."""
    monkeypatch.setattr(contenders.CONTENDERS["nchan"], "missing", lambda: "nginx")
    deliveries.main(["--only=nchan", "--rounds=1", "--many=0", "--crowd=0"])

    assert "nchan (C) is left out: install nginx" in capsys.readouterr().err


def test_a_fleet_counts_what_it_misses() -> None:
    """An event that never comes is lost, one that comes late or twice is out of order."""
    events = [text_of(number) for number in (0, 1, 4, 3, 3)]
    stream = "".join(f"id: {number}\r\ndata: {text}\r\n\r\n" for number, text in enumerate(events)).encode()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Fleet(listener.getsockname(), opened=b": hi") as fleet,
    ):
        opening = threading.Thread(target=lambda: fleet.open(["/"], at_once=1, within=10))
        opening.start()
        server, _ = listener.accept()
        with closing(server):
            server.sendall(b"HTTP/1.1 200 OK\r\n\r\n: hi\n\n")
            opening.join()
            for start in range(0, len(stream), 7):
                server.sendall(stream[start : start + 7])
            fleet.run(lambda: fleet.total == len(events), within=10)

        assert (fleet.lost, fleet.disordered) == (1, 2)


def test_a_fleet_says_what_went_wrong() -> None:
    """A refusal, an end and a silence are errors, not figures."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for answer, told in (
            (b"HTTP/1.1 503 No\r\n\r\nno", "refused"),
            (b"", "ended|failed"),
            (None, "still opening"),
        ):
            with Fleet(listener.getsockname(), opened=b": hi") as fleet:
                fleet.connect("/")
                server, _ = listener.accept()
                with closing(server):
                    if answer is not None:
                        server.sendall(answer)
                        server.close()
                    with pytest.raises(FleetError, match=told):
                        fleet.run(lambda: fleet.total > 0, within=0.5 if answer is None else 10)
