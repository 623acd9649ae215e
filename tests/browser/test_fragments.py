"""What a fragment does to the page: HTML of the server's, where a selector says."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Site, texts, wait_for_state

pytestmark = pytest.mark.browser

LIST = '<ul><li id="a">a</li><li id="b">b</li></ul>'


@pytest.mark.parametrize(
    ("swap", "target", "left"),
    [
        ("append", "ul", ["a", "b", "new"]),
        ("prepend", "ul", ["new", "a", "b"]),
        ("before", "#b", ["a", "new", "b"]),
        ("after", "#a", ["a", "new", "b"]),
        ("replace", "#a", ["new", "b"]),
        ("html", "ul", ["new"]),
        ("remove", "#a", ["b"]),
    ],
)
def test_swaps(page: Page, site: Site, swap: str, target: str, left: list[str]) -> None:
    """Each swap puts the HTML where it says, and a second delivery of elements with ids changes nothing."""
    site.open(page, LIST)
    for _ in range(2):
        site.send_html('<li id="new"><b>new</b></li>', target=target, swap=swap)
        site.finish(page)
        assert texts(page, "li") == left
        assert texts(page, "li > b") == [text for text in left if text == "new"]


def test_every_element_that_matches(page: Page, site: Site) -> None:
    """Each gets a copy of its own; one that went with another, or was renewed, is left out."""
    site.open(
        page,
        """
        <p class="x"><i class="x">in</i></p><p class="x"></p><em class="x"></em>
        <main><u>1</u><u id="two">2</u></main>
        """,
    )
    site.send_html("<b>{{ it }}</b>!", context={"it": 5}, target=".x", swap="html")
    site.send_html('<s id="two">two</s>', target="u", swap="before")
    site.finish(page)
    assert texts(page, "p, em") == ["5!", "5!", "5!"]
    assert texts(page, "main > *") == ["1", "two"]


def test_parts_of_tables(page: Page, site: Site) -> None:
    """Rows are rows, as they are not in an innerHTML of a <div>."""
    site.open(page, "<table><tbody><tr><td>a</td></tr></tbody></table>")
    site.send_html("<tr><td>b</td></tr><tr><td>c</td></tr>", target="tbody")
    site.finish(page)
    assert texts(page, "tbody > tr > td") == ["a", "b", "c"]


@pytest.mark.parametrize("swap", ["append", "prepend", "before", "after"])
def test_an_element_with_an_id_stays_one(page: Page, site: Site, swap: str) -> None:
    """What stands among the children, or the neighbours, is renewed in its place; others are added."""
    site.open(page, f'{LIST}<ol><li id="c">elsewhere</li></ol>')
    target = "ul" if swap in {"append", "prepend"} else "#b"
    site.send_html('<li id="a">A</li><li id="c">c</li>', target=target, swap=swap)
    site.finish(page)
    assert sorted(texts(page, "ul > li")) == ["A", "b", "c"]
    assert texts(page, "ul > li")[0 if swap != "prepend" else 1] == "A"
    assert texts(page, "ol > li") == ["elsewhere"]


@pytest.mark.parametrize(
    "payload",
    [
        '<img src="x" onerror="window.hacked = 1">',
        "</p><script>window.hacked = 1</script>",
        "\"'><svg onload='window.hacked = 1'>",
        "{{ constructor }}{% now 'Y' %}",
        "\u2028 \x85 ]]> <!-- -->",
    ],
)
def test_hostile_context(page: Page, site: Site, payload: str) -> None:
    """Whatever stands in the context is shown as the text that it is, in elements and attributes."""
    site.open(page, "<main></main>")
    site.send_html('<p title="{{ it }}">{{ it }}</p>', context={"it": payload}, target="main")
    site.finish(page)
    assert texts(page, "main") == [payload]
    assert page.locator("p").get_attribute("title") == payload
    assert page.locator("main *").count() == 1
    assert page.evaluate("window.hacked") is None


def test_scripts_do_not_run(page: Page, site: Site) -> None:
    """A <script> in a template's own HTML is put into the page, and stays what it is: inert."""
    site.open(page, "<main></main>")
    for swap in ("append", "prepend", "html"):
        site.send_html("<script>window.ran = 1</script><b>shown</b>", target="main", swap=swap)
    site.finish(page)
    assert page.locator("main > script").count() == 1
    assert texts(page, "b") == ["shown"]
    assert page.evaluate("window.ran") is None


def test_what_arrives_is_live(page: Page, site: Site) -> None:
    """Elements of a fragment that name events hear the very next one."""
    site.open(page, "<main></main>")
    site.send_html('<b data-sse-on="price"></b>', target="main")
    site.send("price", 5)
    site.finish(page)
    assert texts(page, "b") == ["5"]


@pytest.mark.parametrize(
    ("swap", "target", "html"),
    [
        ("replace", "#form", '<form id="form"><input id="name" value="12345"></form>'),
        ("replace", "#name", '<input id="name" value="12345">'),
        ("html", "#form", '<input id="name" value="12345">'),
        ("append", "main", '<form id="form"><input id="name" value="12345"></form>'),
    ],
)
def test_focus_is_kept(page: Page, site: Site, swap: str, target: str, html: str) -> None:
    """Whoever is in a field that is replaced is in the new one, with the same selection."""
    site.open(page, '<main><form id="form"><input id="name" value="abcdef"></form></main>')
    page.evaluate("() => { const field = document.getElementById('name'); field.focus(); }")
    page.evaluate("document.getElementById('name').setSelectionRange(2, 4)")
    site.send_html(html, target=target, swap=swap)
    expect(page.locator("#name")).to_have_value("12345")
    expect(page.locator("#name")).to_be_focused()
    chosen = "(({ selectionStart, selectionEnd }) => [selectionStart, selectionEnd])(document.activeElement)"
    assert page.evaluate(chosen) == [2, 4]
    assert page.locator("#name").count() == 1


def test_focus_of_what_has_no_selection(page: Page, site: Site) -> None:
    """A button, or a field that became one of numbers, is focused all the same."""
    site.open(page, '<main><button id="a">a</button></main>')
    page.locator("#a").focus()
    site.send_html('<input id="a" value="text">', target="main", swap="html")
    expect(page.locator("input#a")).to_be_focused()
    site.send_html('<input id="a" type="number" value="5">', target="main", swap="html")
    expect(page.locator("input[type=number]")).to_be_focused()
    site.finish(page)


def test_focus_elsewhere_is_left_alone(page: Page, site: Site) -> None:
    """A field that stays keeps its focus, and one that goes for good takes it along."""
    site.open(page, '<input id="name"><main><input id="other"></main>')
    page.locator("#name").focus()
    site.send_html('<input id="other" value="new">', target="main", swap="html")
    expect(page.locator("#other")).to_have_value("new")
    expect(page.locator("#name")).to_be_focused()
    page.locator("#other").focus()
    site.send_html(None, target="#other", swap="remove")
    expect(page.locator("#other")).to_have_count(0)
    assert page.evaluate("document.activeElement === document.body")


def test_the_dom_event_comes_first(page: Page, site: Site) -> None:
    """`sse-fragment` bubbles before anything is put; who prevents its default keeps it out."""
    site.open(
        page,
        """
        <script>
          heard = [];
          addEventListener("sse-fragment", (event) => {
            const { target, swap, html } = event.detail.data;
            heard.push([event.target.localName, target, swap, html, document.querySelectorAll("b").length]);
            if (target === "#kept") event.preventDefault();
          });
        </script>
        <main></main><p id="kept">old</p>
        """,
    )
    site.send_html("<b>new</b>", target="main")
    site.send_html("<b>new</b>", target="#kept", swap="html")
    site.finish(page)
    assert page.evaluate("heard") == [
        ["sse-stream", "main", "append", "<b>new</b>", 0],
        ["sse-stream", "#kept", "html", "<b>new</b>", 1],
    ]
    assert texts(page, "main, p") == ["new", "old"]


def test_a_wrong_selector(page: Page, site: Site, complaints: list[str]) -> None:
    """It is named in the console, one that finds nothing is not, and the stream goes on."""
    site.open(page, "<main></main>")
    site.send_html("<b>1</b>", target="main >> [")
    site.send_html("<b>2</b>", target="#missing")
    site.send_html("<b>3</b>", target="main")
    site.finish(page)
    assert texts(page, "b") == ["3"]
    assert page.evaluate("sse.state") == "open"
    assert "main >> [" in complaints.pop()


def test_two_streams_show_it_once(page: Page, site: Site, context: BrowserContext) -> None:
    """The user's own topic comes by both elements of a page, and its fragments are put once."""
    context.request.post(f"{site.base_url}/sign-in/91/")
    site.open(page, '<main></main>{% sse "another" %}')
    wait_for_state(page, "open")
    page.evaluate("() => { ends = []; sse.on('end', (number) => ends.push(number)); }")
    for number in (1, 2, 3):
        site.send_html("<b>{{ it }}</b>", context={"it": number}, target="main", to=91)
    site.send("end", 1)
    site.send("end", 2, to="another")
    page.wait_for_function("ends.length === 2")
    assert texts(page, "b") == ["1", "2", "3"]


def test_trusted_types(page: Page, site: Site) -> None:
    """Where the page's policy lets "django-sse" alone make HTML, fragments arrive and violate nothing."""
    site.write('<main></main><b data-sse-on="news"></b>')
    page.goto(f"{site.url}?csp&trusted-types=django-sse")
    for number in (1, 2):
        site.send_html("<i>{{ it }}</i>", context={"it": number}, target="main")
    site.send("news", "text")
    site.finish(page)
    assert texts(page, "i, b") == ["1", "2", "text"]


def test_trusted_types_of_others(page: Page, site: Site, complaints: list[str]) -> None:
    """Where that policy is not allowed, the page has a stream of its own, and a fragment is reported."""
    site.write('<main></main><b data-sse-on="news"></b>')
    page.goto(f"{site.url}?csp&trusted-types=another")
    site.send("news", 1)
    site.finish(page)
    assert (texts(page, "b"), len(complaints)) == (["1"], 1), "the worker, once"
    site.send_html("<i>new</i>", target="main")
    site.send("news", 2)
    site.finish(page)
    assert texts(page, "main, b") == ["", "2"]
    assert complaints
    assert all("django-sse" in complaint for complaint in complaints)
    complaints.clear()
