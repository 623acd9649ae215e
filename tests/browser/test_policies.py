"""Under a strict Content Security Policy everything works, and nothing is tried that it forbids."""

from typing import Final
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, texts, wait_for_state

pytestmark = pytest.mark.browser

#: What every policy here forbids and allows; scripts are left to each of them.
STRICT: Final = "default-src 'none'; connect-src 'self'; base-uri 'none'; style-src 'self'; script-src "
TRUSTED_TYPES: Final = "; require-trusted-types-for 'script'; trusted-types django-sse"
NONCE: Final = "'nonce-{nonce}'"
NOTE: Final = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => {
        violations.push(`${event.effectiveDirective}: ${event.blockedURI}`);
    });
"""


def show(page: Page, site: Site, policy: str) -> list[str]:
    """Open a page under a policy, which must show events, a toast and a fragment; return its violations."""
    page.add_init_script(NOTE)
    page.goto(f"{site.base_url}/policies/{site.topic}/?{urlencode({'policy': STRICT + policy})}")
    wait_for_state(page, "open")
    site.send_all({"event": "news", "data": "It works"}, {"event": "toast", "data": {"text": "It works"}})
    site.send_html("<b>It works</b>", target="#messages")
    expect(page.locator("#messages b")).to_have_text("It works")
    assert texts(page, "main p, .sse-toast p") == ["It works", "It works"]
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".sse-toast")).to_have_count(0)
    found: list[str] = page.evaluate("violations")
    return found


@pytest.mark.parametrize(
    "policy",
    [
        "'self'",
        f"{NONCE} 'strict-dynamic'",
        f"{NONCE} 'self'",
        f"'self'{TRUSTED_TYPES}",
        f"{NONCE} 'strict-dynamic'{TRUSTED_TYPES}",
    ],
)
def test_nothing_is_violated(page: Page, site: Site, policy: str) -> None:
    """All is shown, and neither the page nor the console hears of a violation."""
    assert show(page, site, policy) == []


@pytest.mark.parametrize(
    "policy",
    [NONCE, NONCE + TRUSTED_TYPES, "'self'; worker-src 'none'", f"'self'; worker-src 'none'{TRUSTED_TYPES}"],
)
def test_a_policy_without_workers(page: Page, site: Site, complaints: list[str], policy: str) -> None:
    """Where the policy forbids the worker, whose script has no nonce, that is tried once at most."""
    violations = show(page, site, policy)

    assert len(violations) <= 1
    assert [line for line in violations if not line.startswith("worker-src: ")] == []
    assert [line for line in complaints if "worker" not in line.lower()] == []
    complaints.clear()


@pytest.mark.parametrize("policy", [f"'self'{TRUSTED_TYPES}", f"{NONCE} 'strict-dynamic'{TRUSTED_TYPES}"])
def test_nothing_is_violated_by_the_polyfill(page: Page, site: Site, policy: str) -> None:
    """A browser without EventSource fetches the polyfill, as a script that the policy knows."""
    page.add_init_script("delete window.EventSource")
    assert show(page, site, policy) == []
    expect(page.locator("script[src*='/vendor/eventsource']")).to_have_count(1)


def test_a_policy_of_the_workers_own(page: Page, site: Site, complaints: list[str]) -> None:
    """A worker that its script's answer lets connect to nothing gives up, and the page has its own stream."""
    script = '<script src="/static/django_sse/sse.min.js" data-worker="/policed-worker.js" defer></script>'
    site.open(page, script + '<b data-sse-on="news"></b>')
    wait_for_state(page, "open")
    site.send("news", "It works")
    expect(page.locator("b")).to_have_text("It works")
    assert all("policed-worker.js" in complaint or "default-src" in complaint for complaint in complaints)
    complaints.clear()
