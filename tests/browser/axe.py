"""An accessibility checker, for any page that is open."""

from typing import Final

from playwright.sync_api import Page

from tests.servers.process import ROOT

CHECKER: Final = ROOT / "tests" / "javascript" / "node_modules" / "axe-core" / "axe.min.js"
RUN: Final = """async () => {
    const { violations, passes } = await axe.run();
    if (passes.length < 10) throw new Error(`only ${passes.length} rules found anything to look at`);
    return violations.flatMap(({ id, help, nodes }) => nodes.map(({ html }) => `${id}: ${help}: ${html}`));
}"""


def violations(page: Page) -> list[str]:
    """Return what the checker finds wrong with a page as it is now, best practices included."""
    page.emulate_media(reduced_motion="reduce")  # else it may look at what is only just fading in
    page.evaluate(CHECKER.read_text())
    found: list[str] = page.evaluate(RUN)
    return found
