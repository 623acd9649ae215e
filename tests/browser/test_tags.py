"""What the tags show: how the connection is, where that is worth a word, and toasts."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Site, requests_of, serve_site, texts, wait_for_state
from tests.browser.site.views import NONCE
from tests.policies import SENDERS, policy_of
from tests.servers.process import Serve

pytestmark = pytest.mark.browser

#: Notes each change of what the status says, as a screen reader would hear it.
LISTEN = """<script>
  window.heard = [];
  addEventListener("DOMContentLoaded", () => {
    const region = document.querySelector("[data-sse-status]");
    new MutationObserver(() => heard.push(region.innerText.trim())).observe(region, { childList: true });
  });
</script>"""
WIDGETS = """{% load static %}<script src="{% static 'django_sse/widgets.js' %}" defer></script>"""
FIELD = '<input id="field" aria-label="Field">'


def status(page: Page) -> str:
    """Return what the status says now."""
    return " ".join(page.get_by_role("status").inner_text().split())


# -- the status --------------------------------------------------------------------------------------


def test_nothing_to_tell(page: Page, site: Site) -> None:
    """While all is well the live regions are there, and empty."""
    site.open(page, LISTEN + "{% sse_status %}{% sse_toasts %}")
    wait_for_state(page, "open")
    site.finish(page)
    expect(page.get_by_role("status")).to_have_attribute("data-state", "open")
    assert status(page) == ""
    assert page.get_by_role("log").inner_text() == ""
    assert page.evaluate("heard.filter(Boolean)") == []


def test_a_line_that_is_lost(page: Page, serve: Serve, complaints: list[str]) -> None:
    """Where the server is gone the status says that the page tries again, and says it once."""
    server = serve_site(serve)
    site = Site(base_url=server.base_url)
    site.open(page, LISTEN + "{% sse_status %}")
    wait_for_state(page, "open")
    server.stop()
    told = "The connection was lost. Trying again…"
    expect(page.get_by_role("status")).to_have_text(told)
    for _ in range(3):
        page.evaluate(
            "() => document.querySelector('sse-stream').dispatchEvent("
            "new CustomEvent('sse-state', { bubbles: true, detail: { state: 'closed' } }))"
        )
    page.evaluate("() => new Promise((done) => setTimeout(done))")
    assert page.evaluate("heard.filter(Boolean)") == [told]
    assert all("net::ERR_" in complaint for complaint in complaints), complaints
    complaints.clear()


def test_a_line_that_is_back_soon(page: Page, serve: Serve) -> None:
    """Where the stream ends every second, and is back at once, nobody is told."""
    site = Site(base_url=serve_site(serve, MAX_AGE=1).base_url)
    streams = requests_of(page, "/events/?topic=another")
    site.open(page, LISTEN + '{% sse_status %}<sse-stream src="/events/?topic=another"></sse-stream>')
    while len(streams) < 4:
        page.evaluate("0")  # lets the browser's news in
    site.finish(page)
    assert page.evaluate("heard.filter(Boolean)") == []


def test_a_stream_that_has_ended(page: Page, site: Site) -> None:
    """A stream that does not come back is told, with a button that loads the page again."""
    closing = f'<sse-stream src="/closing/{site.topic}/"></sse-stream>'
    site.open(page, closing + "{% sse_status %}")
    expect(page.get_by_role("status")).to_contain_text("This page is no longer updated.")
    page.evaluate("window.old = true")
    page.get_by_role("button", name="Reload").click()
    page.wait_for_function("window.old === undefined")
    expect(page.get_by_role("status")).to_contain_text("This page is no longer updated.")
    assert site.get(f"closings/{site.topic}/") == "2"


BAD_CURSOR = '<sse-stream src="/events/?topic={{ topic }}" last-id="what"></sse-stream>'


def test_events_that_were_lost(page: Page, site: Site) -> None:
    """After a reset the status offers a refresh, for as long as the page stands."""
    site.open(page, BAD_CURSOR + "{% sse_status %}")
    told = "This page has missed something, and may be out of date. Reload"
    expect(page.get_by_role("status")).to_have_text(told)
    site.finish(page)
    wait_for_state(page, "open")
    assert status(page) == told
    expect(page.get_by_role("status")).to_have_attribute("data-state", "stale")
    page.evaluate("""() => {
        // As a front end does that swaps the page's content for a new one.
        const [old] = document.querySelectorAll("sse-stream"), fresh = document.createElement("sse-stream");
        fresh.setAttribute("src", old.getAttribute("src"));
        old.replaceWith(fresh);
    }""")
    expect(page.get_by_role("status")).to_have_text("")


def test_a_page_that_brings_itself_up_to_date(page: Page, site: Site) -> None:
    """A page that prevents the default of the reset, wherever it listens, is not called out of date."""
    prevents = """<script>
      addEventListener("DOMContentLoaded", () => setTimeout(() => {
        addEventListener("sse-reset", (event) => { event.preventDefault(); window.mended = true; });
      }));
    </script>"""
    site.open(page, prevents + LISTEN + BAD_CURSOR + "{% sse_status %}")
    site.finish(page)
    assert page.evaluate("window.mended")
    page.evaluate("() => new Promise((done) => setTimeout(done))")
    assert page.evaluate("heard.filter(Boolean)") == []


def test_words_of_ones_own(page: Page, site: Site) -> None:
    """Any element may tell, by templates of its own; one without keeps what it has, for its style."""
    own = """<p id="own" data-sse-status><template data-sse-state="open">All <b>well</b></template></p>
             <i id="dot" data-sse-status>.</i>"""
    site.open(page, WIDGETS + own)
    expect(page.locator("#own")).to_have_text("All well")
    expect(page.locator("#dot")).to_have_attribute("data-state", "open")
    assert page.locator("#dot").inner_text() == "."


# -- toasts ------------------------------------------------------------------------------------------


def test_toasts(page: Page, site: Site) -> None:
    """Each event is one, its text is text, and whoever types goes on typing."""
    site.open(page, FIELD + "{% sse_toasts %}")
    page.locator("#field").focus()
    site.send("toast", {"text": "Saved <b>it</b>", "level": "success"})
    site.send("toast", {"text": "Again"})
    site.finish(page)
    assert texts(page, ".sse-toast p") == ["Saved <b>it</b>", "Again"]
    expect(page.locator("#field")).to_be_focused()


def test_at_most_some(page: Page, site: Site) -> None:
    """The newest stay, as many as the tag says, and other events show none."""
    site.open(page, '{% sse_toasts "notice" max=2 %}')
    for number in range(4):
        site.send("notice", {"text": str(number)})
        site.send("toast", {"text": "another"})
    site.finish(page)
    assert texts(page, ".sse-toast p") == ["2", "3"]


def test_a_toast_is_dismissed_with_the_mouse(page: Page, site: Site) -> None:
    """The toast goes, the others stay, and whoever was typing goes on typing."""
    site.open(page, FIELD + "{% sse_toasts %}")
    for text in ("one", "two"):
        site.send("toast", {"text": text})
    site.finish(page)
    page.locator("#field").focus()
    page.get_by_role("button", name="Dismiss").first.click()
    assert texts(page, ".sse-toast p") == ["two"]
    expect(page.locator("#field")).to_be_focused()


def test_a_toast_is_dismissed_with_the_keyboard(page: Page, site: Site) -> None:
    """The focus goes back to where it came from, and not to the beginning of the page."""
    site.open(page, FIELD + "{% sse_toasts %}")
    site.send("toast", {"text": "one"})
    site.finish(page)
    page.locator("#field").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Dismiss")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".sse-toast")).to_have_count(0)
    expect(page.locator("#field")).to_be_focused()


def test_dismissed_from_elsewhere(page: Page, site: Site) -> None:
    """A button dismisses what its selector names around it, and takes the focus from nobody who has it."""
    site.open(
        page,
        WIDGETS + FIELD + '<div class="alert"><p><button data-sse-dismiss=".alert">Close</button></p></div>',
    )
    page.locator("#field").focus()
    page.get_by_role("button").evaluate("(button) => button.click()")  # as where buttons take no focus
    expect(page.locator(".alert")).to_have_count(0)
    expect(page.locator("#field")).to_be_focused()


# -- the policy --------------------------------------------------------------------------------------

STRICT = (
    "default-src 'none'; connect-src 'self'; worker-src 'self'; style-src 'self'; "
    f"script-src 'nonce-{NONCE}' 'strict-dynamic'"
)


@pytest.mark.parametrize(
    "policy",
    [
        "default-src 'self'",
        STRICT,
        *(policy_of(sender, NONCE) for sender in SENDERS),
    ],
    ids=["self", "strict-dynamic", *SENDERS],
)
def test_under_a_policy(page: Page, site: Site, policy: str) -> None:
    """Under the policies that the documentation names everything works, and nothing is reported."""

    def answer(route: Route) -> None:
        response = route.fetch()
        headers = {**response.headers, "content-security-policy": policy}
        body = response.text()
        if NONCE not in policy:  # without the page's own script
            body = re.sub(r"<script>.*?</script>", "", body, flags=re.DOTALL)
        route.fulfill(response=response, headers=headers, body=body)

    site.write('<ul id="list"></ul>{% sse_status %}{% sse_toasts %}')
    page.route(f"{site.url}*", answer)
    page.goto(f"{site.url}?csp" if NONCE in policy else site.url)
    wait_for_state(page, "open")
    site.send_html("<li>{{ text }}</li>", context={"text": "a fragment"}, target="#list")
    site.send("toast", {"text": "one"})
    expect(page.locator(".sse-toast")).to_have_css("display", "flex")
    assert texts(page, "#list li") == ["a fragment"]
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".sse-toast")).to_have_count(0)
