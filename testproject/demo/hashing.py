"""The long job: one hash over the files of this Python's standard library, in a thread, with its progress."""

import json
import logging
import sysconfig
import threading
from collections import deque
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from django_sse import send_event
from django_sse.exceptions import PublishError
from django_sse.positions import Entry
from django_sse.progress import track
from django_sse.signals import event_sent

logger = logging.getLogger(__name__)

TOPIC = "jobs"
SECONDS = 8.0  # that a job takes: a disk that is cold would need as long, this one is made to
AT_ONCE = 4
SHOWN = 6  # jobs on the page


def library() -> list[Path]:
    """Return the files: the modules of the standard library, and those of its packages."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted([*root.glob("*.py"), *root.glob("*/*.py")])


class Hashing:
    """Runs a few jobs at once, and knows what was told of the latest ones, for pages opened later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._count = 0
        self._told: deque[dict[str, Any]] = deque(maxlen=SHOWN)  # the newest first

    def start(self, owner: str, *, fails: bool = False, seconds: float = SECONDS) -> threading.Thread | None:
        """Start a job; None where as many run as may."""
        with self._lock:
            if self._running == AT_ONCE:
                return None
            self._running += 1
            self._count += 1
            label = f"Job {self._count}, for {owner}"
        thread = threading.Thread(target=self._run, args=(label, fails, seconds), name=label, daemon=True)
        thread.start()
        return thread

    def jobs(self) -> list[dict[str, Any]]:
        """Return what was told last of each job, the newest job first."""
        with self._lock:
            return [dict(job) for job in self._told]

    def note(self, *, entry: Entry, **_: object) -> None:
        """Take what was told; a receiver of the signal."""
        if entry.topic != TOPIC:
            return
        data = json.loads(entry.event.text)
        with self._lock:
            for job in self._told:
                if job["id"] == data["id"]:
                    job.update(data)
                    return
            self._told.appendleft(data)

    def _run(self, label: str, fails: bool, seconds: float) -> None:  # noqa: FBT001
        paths = library()
        if fails:  # a file that is not there
            paths.insert(len(paths) * 2 // 3, Path(__file__).with_name("missing.py"))
        job, digest, pause = uuid4().hex, sha256(), threading.Event()  # never set: a wait with a rate
        try:
            for path in track(paths, to=TOPIC, label=label, id=job, interval=0.1):
                digest.update(path.read_bytes())
                pause.wait(seconds / len(paths))
            send_event(TOPIC, "hashed", {"id": job, "digest": digest.hexdigest()}, on_commit=False)
        except (OSError, PublishError) as error:
            logger.warning("%s: %s", label, error)
        finally:
            with self._lock:
                self._running -= 1


hashing = Hashing()
event_sent.connect(hashing.note, dispatch_uid="testproject.hashing")
