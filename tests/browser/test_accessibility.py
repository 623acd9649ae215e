"""What is shown is also told: markup that a checker finds nothing wrong with, and each news once."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Site, wait_for_state
from tests.browser.proxy import Proxy

pytestmark = pytest.mark.browser

#: Notes each text that is added to a live region, and each that changes there.
LISTEN = """() => {
    window.said = [];
    const say = (node) => { if (node.textContent.trim()) said.push(node.textContent.trim()); };
    const watch = new MutationObserver((changes) => {
        for (const { type, target, addedNodes } of changes) {
            if (type === "characterData") say(target); else addedNodes.forEach(say);
        }
    });
    for (const region of document.querySelectorAll("[role=log], [role=status], [role=alert], [aria-live]")) {
        watch.observe(region, { childList: true, characterData: true, subtree: true });
    }
}"""


def order(pk: int, customer: str, status: str = "new") -> dict[str, object]:
    """Return an event that tells of an order."""
    return {"event": "order-created", "data": {"pk": pk, "customer": customer, "status": status}}


def test_the_checker_finds_mistakes(page: Page, site: Site) -> None:
    """What is wrong with a page is found, so the tests that find nothing mean something."""
    site.open(page, '<main><h1>A page</h1><ul role="log"><li>one</li></ul><img src="data:,"></main>')
    found = violations(page)

    assert {line.partition(":")[0] for line in found} >= {"image-alt", "listitem"}


def test_the_tags(page: Page, site: Site) -> None:
    """The page of all tags is in order: with nothing to tell, with toasts, and with something amiss."""
    site.open(page, "<main><h1>A page</h1></main>{% sse_status %}{% sse_toasts %}")
    wait_for_state(page, "open")
    assert violations(page) == []

    page.evaluate(LISTEN)
    site.send_all(*({"event": "toast", "data": {"text": text, "level": "warning"}} for text in "ab"))
    site.finish(page)
    page.locator("sse-stream").evaluate(
        "(stream) => stream.dispatchEvent(new CustomEvent('sse-reset', { bubbles: true }))"
    )
    expect(page.get_by_role("button", name="Reload")).to_be_visible()
    missed = page.get_by_role("status").text_content()
    assert page.evaluate("said") == ["a", "b", missed]
    assert violations(page) == []


def test_news_is_told_once(page: Page, proxied: Site, proxy: Proxy) -> None:
    """A live region gets each event once, whatever becomes of the line in between."""
    page.goto(f"{proxied.base_url}/examples/html/{proxied.topic}/")
    wait_for_state(page, "open")
    page.evaluate(LISTEN)
    proxied.send_all(order(2, "Bob"))
    proxied.send_html("<p>Hello</p>", target="#messages")
    expect(page.locator("#messages")).to_have_text("Hello")
    assert page.evaluate("said") == ["Bob: new", "Hello"]

    proxy.answer(503)  # until it is mended
    proxy.drop()
    proxied.send_all(order(3, "Eve"))
    proxied.send_html("<p>Bye</p>", target="#messages")
    proxy.mend()
    expect(page.locator("#messages")).to_contain_text("Bye")
    proxy.drop()
    proxied.send_all(order(4, "Kay"))
    expect(page.locator("li").last).to_have_text("Kay: new")
    assert page.evaluate("said") == ["Bob: new", "Hello", "Eve: new", "Bye", "Kay: new"]
    assert len(proxy.streams) > 2
    assert violations(page) == []
