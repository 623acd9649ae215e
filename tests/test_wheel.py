"""What users install is the package, whole, and nothing else."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that a freshly built wheel was unpacked into."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("django_sse_channels-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def files(folder: Path) -> Iterator[str]:
    """Find the files under a folder, compiled ones apart."""
    return (
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def test_the_wheel_has_every_file_of_the_package(unpacked: Path) -> None:
    """Modules, scripts, templates and migrations are there, down to the markers of the types."""
    packed = set(files(unpacked / "django_sse"))

    assert packed == set(files(ROOT / "django_sse"))
    scripts = {"sse.js", "sse.min.js", "sse.d.ts", "widgets.js", "vendor/eventsource.min.js"}
    assert packed >= {"py.typed", *(f"static/django_sse/{name}" for name in scripts)}


def test_the_wheel_has_nothing_else(unpacked: Path) -> None:
    """Tests and demo stay at home; the licence comes along."""
    package, metadata = sorted(path.name for path in unpacked.iterdir())

    assert package == "django_sse"
    assert (unpacked / metadata / "licenses" / "LICENSE").is_file()


def test_the_wheel_works_alone(unpacked: Path, tmp_path: Path) -> None:
    """Away from its sources, it is found as an app, and its script as a static file."""
    script = """
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=["django.contrib.staticfiles", "django_sse"], STATIC_URL="static/")
django.setup()

from django.contrib.staticfiles import finders
import django_sse.urls

print(django_sse.__file__, finders.find("django_sse/sse.js"), sep="\\n")
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.returncode == 0, run.stderr
    assert [Path(line).is_relative_to(unpacked) for line in run.stdout.splitlines()] == [True, True]
