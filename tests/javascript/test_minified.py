"""The script as browsers get it: small, made from the readable one, by a tool that is pinned."""

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers.process import ROOT

HERE = Path(__file__).parent
STATIC = ROOT / "django_sse" / "static" / "django_sse"
MINIFIED = STATIC / "sse.min.js"
#: What the script may weigh on its way to a browser.
MOST = 5_000


@pytest.mark.javascript
def test_made_from_the_source(tmp_path: Path) -> None:
    """The minified script is what the pinned minifier makes of the source as it is now."""
    result = tmp_path / "sse.min.js"
    run = subprocess.run([HERE / "build", result], capture_output=True, text=True, check=False, timeout=120)

    assert run.returncode == 0, run.stderr
    assert result.read_text() == MINIFIED.read_text(), "run tests/javascript/build, and commit what it makes"


def test_small() -> None:
    """Compressed as a server would at its best, it weighs 5,000 bytes at most."""
    weight = len(gzip.compress(MINIFIED.read_bytes(), compresslevel=9, mtime=0))

    assert weight <= MOST


@pytest.fixture(scope="module")
def lock() -> dict[str, dict[str, Any]]:
    """Return what the lock file says of each package; that without a name is our own list."""
    packages: dict[str, dict[str, Any]] = json.loads((HERE / "package-lock.json").read_text())["packages"]
    return packages


def test_pinned(lock: dict[str, dict[str, Any]]) -> None:
    """Each package that we name is named by its exact version, and is locked at that one."""
    wanted = json.loads((HERE / "package.json").read_text())["devDependencies"]

    assert lock[""]["devDependencies"] == wanted
    locked = {name: lock[f"node_modules/{name}"]["version"] for name in wanted}
    assert {name: version.rpartition("@")[2] for name, version in wanted.items()} == locked


def test_locked_by_checksum_and_without_address(lock: dict[str, dict[str, Any]]) -> None:
    """A package is what its checksum says, wherever it comes from."""
    packages = {name: each for name, each in lock.items() if name}

    assert [name for name, each in packages.items() if not each["integrity"].startswith("sha512-")] == []
    assert [name for name, each in packages.items() if "resolved" in each] == []
    assert "://" not in (HERE / "package-lock.json").read_text()
