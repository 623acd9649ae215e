"""What the declarations for TypeScript say is what can be done, and nothing else."""

import re
import subprocess
from pathlib import Path

import pytest

from django_sse import fragments
from tests.servers.process import ROOT

HERE = Path(__file__).parent
DECLARATIONS = ROOT / "django_sse" / "static" / "django_sse" / "sse.d.ts"


@pytest.mark.javascript
def test_right_uses_compile_and_wrong_ones_do_not() -> None:
    """The strictest compiler takes every use of the one file, and refuses every one of the other."""
    compiler = HERE / "node_modules" / ".bin" / "tsc"
    run = subprocess.run(
        [compiler, "--project", HERE / "typings"], capture_output=True, text=True, check=False, timeout=120
    )

    assert (run.returncode, run.stdout) == (0, "")


def test_swaps() -> None:
    """The swaps that are declared are those of fragments."""
    (declared,) = re.findall(r"type Swap = (.+);", DECLARATIONS.read_text())

    assert set(re.findall(r'"(\w+)"', declared)) == set(fragments.SWAPS)


def test_states() -> None:
    """The states that are declared are those of the script."""
    (declared,) = re.findall(r"type State = (.+);", DECLARATIONS.read_text())
    script = (DECLARATIONS.parent / "sse.js").read_text()

    states = re.findall(r'"(\w+)"', declared)
    assert len(states) == 5
    assert [state for state in states if f'"{state}"' not in script] == []
