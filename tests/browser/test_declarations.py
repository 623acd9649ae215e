"""The declarations for TypeScript, against the script itself."""

import json
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Site
from tests.servers.process import ROOT

pytestmark = pytest.mark.browser

COMPILER = ROOT / "tests" / "javascript" / "node_modules" / ".bin" / "tsc"
DECLARATIONS = ROOT / "django_sse" / "static" / "django_sse" / "sse.d.ts"
OPTIONS = ["--strict", "--noEmit", "--target", "ES2018", "--lib", "ES2018,DOM"]
TYPES = [
    "DjangoSSE.Script",
    "DjangoSSE.Connection",
    "DjangoSSE.Detail",
    "DjangoSSE.ReservedEvents['sse-open']",
]
LOOK = """() => {
    const connection = sse.connect("/events/", {}, () => {});
    connection.close();
    return [sse, connection, opened, opened.data].map(Object.keys);
}"""


def test_everything_that_is_there_is_declared(page: Page, site: Site, tmp_path: Path) -> None:
    """Script, connection, event and opening have the members that are declared, and no others."""
    site.open(page, "<script>addEventListener('sse-open', ({ detail }) => { opened = detail; })</script>")
    site.finish(page)
    found = zip(TYPES, page.evaluate(LOOK), strict=True)
    # Where a member is missing here, or is one too many, these do not compile.
    lines = [
        f"const members{number}: Record<keyof {name}, 1> = {json.dumps(dict.fromkeys(members, 1))};"
        for number, (name, members) in enumerate(found)
    ]
    (tmp_path / "members.ts").write_text("\n".join(lines))
    run = subprocess.run(
        [COMPILER, *OPTIONS, DECLARATIONS, "members.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (run.returncode, run.stdout) == (0, ""), lines
