"""A Chromium as people have it: tabs in the background are hidden, and may be frozen.

Playwright shows every page of a browser that it starts as if it were in front; one that is started here is
left as it is.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from tests.servers.process import LEASH, StartError, becomes_true


@contextmanager
def everyday_chromium(
    playwright: Playwright, program: str, arguments: Sequence[str], directory: Path
) -> Iterator[BrowserContext]:
    """Start a Chromium whose profile is in a directory, and end it."""
    flags = ["--headless=new", "--remote-debugging-port=0", "--no-first-run", f"--user-data-dir={directory}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-IS", str(LEASH), program, *arguments, *flags, "about:blank"],
            stdout=log,
            stderr=log,
        )
    try:
        browser = playwright.chromium.connect_over_cdp(_address(directory), no_defaults=True)
        yield browser.contexts[0]
        browser.close()
    finally:
        process.terminate()
        process.wait(10)


def _address(directory: Path) -> str:
    port = directory / "DevToolsActivePort"
    if not becomes_true(lambda: port.exists() and "\n" in port.read_text(), within=30):
        raise StartError(f"Chromium did not start; its log ends:\n{(directory / 'log').read_text()[-4000:]}")
    return f"http://127.0.0.1:{port.read_text().split()[0]}"


def live(page: Page, state: Literal["frozen", "active"]) -> None:
    """Freeze a page as Chromium freezes tabs in the background, or thaw it."""
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": state})


def workers(browser: Browser, base_url: str) -> list[str]:
    """List the shared workers of a site by the ids of their targets."""
    targets = browser.new_browser_cdp_session().send("Target.getTargets")["targetInfos"]
    return [
        target["targetId"]
        for target in targets
        if target["type"] == "shared_worker" and target["url"].startswith(f"{base_url}/")
    ]


def kill(browser: Browser, worker: str) -> None:
    """End a worker, about which its pages are told nothing."""
    browser.new_browser_cdp_session().send("Target.closeTarget", {"targetId": worker})
