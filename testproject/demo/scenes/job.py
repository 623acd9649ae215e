"""Job: the files of this Python are hashed in a thread, which says how far it is.

The loop's rows go through `track`. That is all: a page fills one template for each job, whoever started it,
and a page that comes back is given the latest of each.
"""

import logging
import sysconfig
import threading
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from django_sse import send_event, send_fragment
from django_sse.exceptions import PublishError
from django_sse.progress import track
from testproject.demo.models import Job
from testproject.demo.pages import Scene, answered

logger = logging.getLogger(__name__)

SCENE = Scene(
    slug="job",
    title="Job",
    summary="Long work that shows how far it is, several at once.",
    module=__name__,
    card=lambda: {"job": Job.objects.first()},
    files=("templates/demo/parts/job.html", "sse.py", "models.py"),
)
SECONDS = 6.0  # that a job takes: with a cold disk it would need as long, this one is made to
AT_ONCE = 4
SHOWN = 6


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the latest jobs."""
    return SCENE.render(request, {"jobs": Job.objects.all()[:SHOWN], "shown": SHOWN})


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Start a job: the answer does not wait for it."""
    if Job.objects.filter(state="running").count() >= AT_ONCE:
        text = f"{AT_ONCE} jobs run already: wait for one of them."
        send_event("jobs", "toast", {"text": text, "level": "warning"})
        return answered(request, "demo:job")
    name = request.user.get_short_name() if request.user.is_authenticated else "a visitor"
    paths = library()
    if "fails" in request.POST:  # a file that is not there
        paths.insert(len(paths) * 2 // 3, Path(__file__).with_name("missing.py"))
    job = Job.objects.create(key=uuid4().hex, label=f"Hashing for {name}", total=len(paths))
    threading.Thread(target=run, args=(job, paths), name=str(job), daemon=True).start()
    return answered(request, "demo:job")


def library() -> list[Path]:
    """Return the files: the modules of the standard library, and those of its packages."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted([*root.glob("*.py"), *root.glob("*/*.py")])


def run(job: Job, paths: list[Path], *, seconds: float = SECONDS) -> None:
    """Hash the files, say how far it is, and write down how it ended."""
    digest, pause = sha256(), threading.Event()  # never set: a wait with a rate
    try:
        for file in track(paths, to="jobs", label=job.label, id=job.key, interval=0.1):
            digest.update(file.read_bytes())
            job.done += 1
            pause.wait(seconds / len(paths))
        job.state, job.digest = "done", digest.hexdigest()
        template, context = "demo/parts/digest.html", {"job": job}
        send_fragment(
            "jobs", template, context, target=f"#job-{job.key} .digest", swap="html", on_commit=False
        )
    except (OSError, PublishError) as error:
        job.state = "failed"
        logger.warning("%s: %s", job.label, error)
    finally:
        job.save()
        connection.close()  # this thread's own


urlpatterns = [
    path("", show, name="job"),
    path("start/", start, name="job-start"),
]
