"""How a page's stream lives: its states, its gaps, its ends."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from django_sse.positions import topic_hash
from tests.browser.conftest import Site, serve_site, texts, wait_for_state
from tests.servers.process import Serve, becomes_true

pytestmark = pytest.mark.browser

#: Shows each arrival, so that what comes twice is seen twice.
LOG = """
<ol>
  {% for row in rows %}<li>{{ row.text }}</li>{% endfor %}
  <template data-sse-on="row"><li data-sse-key="text"></li></template>
</ol>
"""
#: Shows each row once, and what came from the stream in bold.
ROWS = """
<ul>
  {% for row in rows %}<li id="row-{{ row.pk }}">{{ row.text }}</li>{% endfor %}
  <template data-sse-on="row"><li id="row-" data-sse-id="pk"><b data-sse-key="text"></b></li></template>
</ul>
"""


def before_script(page: Page, act: Callable[[], None]) -> None:
    """Act between a page's rendering and the start of its script."""

    def answer(route: Route) -> None:
        act()
        route.continue_()

    page.route("**/sse.min.js", answer, times=1)


def test_the_page_closes_its_gap(page: Page, site: Site) -> None:
    """What was sent after the view's query, and while the script was loading, is shown, once."""
    before_script(page, lambda: site.add(pk=2, text="later"))
    site.open(page, "{{ add_late_row }}" + LOG)
    site.finish(page)
    assert texts(page, "li") == ["late", "later"]


def test_a_script_that_is_slow(page: Page, site: Site) -> None:
    """What was sent while another deferred script was loading reaches the handlers that it brings."""

    def answer(route: Route) -> None:
        site.add(pk=1, text="early")
        route.fulfill(content_type="text/javascript", body="sse.on('row', (row) => heard.push(row.text))")

    page.route("**/late.js", answer)
    site.open(page, '<script>heard = []</script>{% sse topic %}<script src="/late.js" defer></script>')
    site.finish(page)
    assert page.evaluate("heard") == ["early"]


def test_what_the_page_has_already_is_not_doubled(page: Page, site: Site) -> None:
    """An event just before the request is in the view's query, and comes again: rows with an id stay one."""
    for number in range(1, 4):
        site.add(pk=number, text=f"row {number}")
    site.open(page, ROWS)
    site.finish(page)
    assert texts(page, "li") == ["row 1", "row 2", "row 3"]
    assert texts(page, "li > b") == ["row 1", "row 2", "row 3"], (
        "nothing came again, so nothing was shown here"
    )


def test_a_server_that_cuts(page: Page, serve: Serve) -> None:
    """A stream that ends every second loses nothing and doubles nothing."""
    site = Site(base_url=serve_site(serve, MAX_AGE=1).base_url)
    site.open(page, LOG)
    sent = 0
    while site.streams()[0] < 5:
        sent += 1
        site.add(pk=sent, text=str(sent))
    site.finish(page)
    assert texts(page, "li") == [str(number) for number in range(1, sent + 1)]


def test_states(page: Page, site: Site) -> None:
    """The page tells that its stream is open, and tells nothing when it has none left."""
    site.open(page)
    wait_for_state(page, "open")
    assert page.evaluate("sse.state") == "open"
    page.evaluate("document.querySelector('sse-stream').remove()")
    page.wait_for_function("!('sse' in document.documentElement.dataset)")
    assert page.evaluate("sse.state") == ""


def test_a_lost_server(page: Page, serve: Serve, complaints: list[str]) -> None:
    """While the server is away the state is reconnecting."""
    server = serve_site(serve)
    Site(base_url=server.base_url).open(page)
    wait_for_state(page, "open")
    server.stop(grace=0.1)
    wait_for_state(page, "reconnecting")
    page.close()
    assert all("Failed to load resource" in complaint for complaint in complaints)
    complaints.clear()


def test_an_answer_that_is_no_stream(page: Page, site: Site, complaints: list[str]) -> None:
    """Where the browser gives up for good, the state is closed, whatever other streams do."""
    site.open(page, '<sse-stream src="/no-such-stream/"></sse-stream>')
    wait_for_state(page, "closed")
    site.finish(page)
    assert page.evaluate("sse.state") == "closed"
    assert "404" in complaints.pop()


def test_a_server_that_wants_no_reconnect(page: Page, site: Site) -> None:
    """After sse-close with "reconnect": false the stream stays closed, wherever its element is put."""
    site.open(page, f'<sse-stream id="it" src="/closing/{site.topic}/"></sse-stream>')
    wait_for_state(page, "closed")
    page.evaluate("element = it; document.body.append(element)")
    page.evaluate("element.remove()")
    site.finish(page)
    page.evaluate("document.body.append(element)")
    site.finish(page)
    assert site.get(f"closings/{site.topic}/") == "1"


def test_moved_and_removed(page: Page, site: Site) -> None:
    """An element that is moved keeps its connection; a removed one closes it, and goes on when put back."""
    site.open(page, f"<main></main>{LOG}")
    site.add(pk=1, text="first")
    site.finish(page)
    page.evaluate(
        """() => {
            element = document.querySelector("sse-stream");
            document.querySelector("main").append(element);
        }"""
    )
    site.add(pk=2, text="moved")
    expect(page.locator("li")).to_have_text(["first", "moved"])
    assert site.streams() == (1, 1)

    page.evaluate("element.remove()")
    assert becomes_true(lambda: site.streams() == (1, 0), within=10)
    site.add(pk=3, text="away")
    page.evaluate("document.body.append(element)")
    expect(page.locator("li")).to_have_text(["first", "moved", "away"])
    assert site.streams() == (2, 1)


def test_back_button(page: Page, site: Site) -> None:
    """A page kept for the back button holds no socket, and goes on where it was when it is shown again."""
    site.open(page, LOG)
    page.evaluate("kept = true")
    site.add(pk=1, text="before")
    expect(page.locator("li")).to_have_text(["before"])

    page.goto(f"{site.base_url}/closings/{site.topic}/")
    assert becomes_true(lambda: site.streams() == (1, 0), within=10)
    site.add(pk=2, text="meanwhile")
    page.go_back(wait_until="commit")  # a page that was kept does not load again
    assert page.evaluate("window.kept"), "the browser did not keep the page"
    site.add(pk=3, text="after")
    site.finish(page)
    assert texts(page, "li") == ["before", "meanwhile", "after"]
    assert site.streams() == (2, 1)


def test_two_streams(page: Page, context: BrowserContext, site: Site) -> None:
    """Both elements are served by one stream; the user's own topic, which both follow, is shown once."""
    context.request.post(f"{site.base_url}/sign-in/71/")
    site.open(
        page,
        """
        <ol data-sse-on="note row" data-sse-swap="append" data-sse-key="text"></ol>
        {% sse "another" %}
        """,
    )
    expect(page.locator("sse-stream")).to_have_count(2)
    expect(page.locator("script[src]")).to_have_count(1)
    wait_for_state(page, "open")
    assert site.streams()[1] == 1
    assert replace(site, topic="another").streams()[1] == 1
    assert replace(site, topic="user.71").streams()[1] == 1, "more than one stream"

    site.send("note", {"text": "note"}, to=71)
    site.send("row", {"text": "first"})
    site.send("row", {"text": "second"}, to="another")
    page.evaluate("() => { ends = []; sse.on('end', (number) => ends.push(number)); }")
    site.send("end", 1)
    site.send("end", 2, to="another")
    page.wait_for_function("ends.length === 2")
    assert sorted(texts(page, "li")) == ["first", "note", "second"]


STANDING = """
<b data-sse-on="standing"></b><ol data-sse-on="row" data-sse-swap="append" data-sse-key="text"></ol>
"""


def test_a_view_that_sends_a_first_state(page: Page, site: Site) -> None:
    """Its stream is open, and shows the state and what follows, from the first event on."""
    board = Site(base_url=site.base_url)
    site.open(page, STANDING + f'<sse-stream src="/boards/{board.topic}/"></sse-stream>')
    expect(page.locator("b")).to_have_text("now")
    board.add(text="first")
    expect(page.locator("li")).to_have_text(["first"])
    wait_for_state(page, "open")
    assert page.locator("sse-stream").first.get_attribute("last-id") != ""


def test_a_first_state_after_a_reset(page: Page, site: Site) -> None:
    """Where the history has begun anew its first events are shown, however far the page was before."""
    board = Site(base_url=site.base_url)
    lost = f"1~{topic_hash(board.topic)}.501.0123456789"
    site.open(
        page,
        STANDING
        + f'<sse-stream src="/boards/{board.topic}/" last-id="{lost}"></sse-stream>{{% sse_status %}}',
    )
    expect(page.locator("b")).to_have_text("now")
    for number in range(1, 4):
        board.add(text=f"event {number}")
    expect(page.locator("li")).to_have_text(["event 1", "event 2", "event 3"])
    wait_for_state(page, "open")


def test_a_throwing_handler_of_states(page: Page, serve: Serve, complaints: list[str]) -> None:
    """What sse.connect() is given to hear of states may throw: the stream comes back all the same."""
    site = Site(base_url=serve_site(serve, MAX_AGE=1).base_url)
    site.open(page)
    page.evaluate(
        """(topic) => {
            states = [];
            const onstate = (state) => { states.push(state); throw new Error("a handler's own"); };
            sse.connect(`/events/?topic=${topic}`, { onstate }, () => {});
        }""",
        site.topic,
    )
    page.wait_for_function("states.filter((state) => state === 'open').length >= 3")
    site.finish(page)
    page.close()
    assert {complaint for complaint in complaints if "own" not in complaint} == set()
    complaints.clear()


def test_a_tab_that_is_looked_at_while_it_loads(page: Page, site: Site) -> None:
    """A stream that is asked to go on before the page's deferred scripts have run waits for them."""

    def answer(route: Route) -> None:
        page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
        site.add(pk=1, text="early")
        route.fulfill(content_type="text/javascript", body="sse.on('row', (row) => heard.push(row.text))")

    page.route("**/late.js", answer)
    site.open(page, '<script>heard = []</script>{% sse topic %}<script src="/late.js" defer></script>')
    site.finish(page)
    assert page.evaluate("heard") == ["early"]


def test_users_own_topics(page: Page, other_page: Page, site: Site) -> None:
    """A note to one user is on that user's page and on no other; a later event for all is on both."""
    site.write('<ol data-sse-on="note news" data-sse-swap="append"></ol>')
    for pk, tab in ((81, page), (82, other_page)):
        tab.context.request.post(f"{site.base_url}/sign-in/{pk}/")
        tab.goto(site.url)
        wait_for_state(tab, "open")
    site.send("note", "for 81", to=81)
    site.send("note", "for 82", to=82)
    site.send("news", "for all")
    for own, tab in (("for 81", page), ("for 82", other_page)):
        expect(tab.get_by_text("for all")).to_have_count(1)
        expect(tab.get_by_text(own)).to_have_count(1)
        assert sorted(texts(tab, "li")) == [own, "for all"]


def test_strict_policy(page: Page, site: Site) -> None:
    """Under a policy that allows scripts by nonce only, the page is live and violates nothing."""
    site.write('<b data-sse-on="news"></b>')
    page.goto(f"{site.url}?csp")
    site.send("news", "allowed")
    expect(page.locator("b")).to_have_text("allowed")


READ = """([topic, id, count]) => new Promise((done) => {
    const heard = [];
    const source = new EventSource(`/events/?topic=${topic}&lastEventId=${id}`);
    for (const name of ["sse-open", "sse-reset", "news"])
        source.addEventListener(name, ({ type, data, lastEventId }) => {
            heard.push([type, JSON.parse(data), lastEventId]);
            if (type === "sse-open") window.opened = true;
            if (heard.length === count) { source.close(); done(heard); }
        });
})"""


def test_own_event_source(page: Page, site: Site) -> None:
    """Chromium's own EventSource, without our script, reads the stream and its ids, and goes on by them."""
    page.goto(f"{site.base_url}/closings/{site.topic}/")
    page.evaluate(f"() => {{ heard = ({READ})(['{site.topic}', '', 3]); }}")
    page.wait_for_function("window.opened")
    site.send("news", 1)
    site.send("news", {"a": "ü\u2028"})
    opened, first, second = page.evaluate("heard")
    assert (opened[0], opened[1]["topics"]) == ("sse-open", [site.topic])
    assert [first[:2], second[:2]] == [["news", 1], ["news", {"a": "ü\u2028"}]]
    assert len({opened[2], first[2], second[2]}) == 3

    site.send("news", 3)
    again, *resumed = page.evaluate(READ, [site.topic, first[2], 3])
    assert again[0] == "sse-open"
    assert [event[:2] for event in resumed] == [["news", {"a": "ü\u2028"}], ["news", 3]]
    assert resumed[0][2] == second[2]
