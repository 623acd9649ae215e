"""In CI, a test that did not run is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {
    "test_inside": "def test_it(): pytest.skip()",
    "test_marked": "@pytest.mark.skip\ndef test_it(): pass",
    "test_expected": "@pytest.mark.xfail\ndef test_it(): raise ValueError",
    "test_module": "pytest.skip(allow_module_level=True)",
}


@pytest.mark.parametrize(("ci", "exit_code", "named"), [("true", 1, set(SKIPPED)), ("", 0, set())])
def test_a_skipped_test_is_a_failure_in_ci(tmp_path: Path, ci: str, exit_code: int, named: set[str]) -> None:
    """Tests skipped in any way end the run with an error that names them in CI, and only there."""
    for name, body in SKIPPED.items():
        (tmp_path / f"{name}.py").write_text(f"import pytest\n\n{body}\n")
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:django", "-p", "tests.conftest"],
        cwd=tmp_path,
        env=os.environ | {"CI": ci, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.returncode == exit_code, run.stdout
    report = run.stdout.partition("skipped in CI")[2]
    assert {name for name in SKIPPED if f"{name}.py" in report} == named
