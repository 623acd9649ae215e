"""What an event does to the page: text into elements, attributes and templates, and nothing else."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Site, texts

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("data", "key", "shown"),
    [
        ("a string", "", "a string"),
        (12, "", "12"),
        ({"a": [1, None]}, "", '{"a":[1,null]}'),
        (None, "", ""),
        ({"a": {"b": "deep"}}, "a.b", "deep"),
        ({"a": ["first", "second"]}, "a.1", "second"),
        ({"a": False}, "a", "false"),
        ({"a": {"b": 1}}, "a", '{"b":1}'),
        ({"a": None}, "a", ""),
        ({"a": None}, "a.b", ""),
        ({}, "a", ""),
        ("a string", "a", ""),
        ({"a": ["first", "second"]}, "a.length", "2"),
        ({}, "constructor", ""),
        ({}, "__proto__.constructor.name", ""),
        ({"a": []}, "a.constructor", ""),
        (12, "toString", ""),
        (None, "a", ""),
    ],
)
def test_text(page: Page, site: Site, data: object, key: str, shown: str) -> None:
    """An element that names the event gets its data as text: all of it, or what lies at its path."""
    site.open(page, f'<p data-sse-on="other news" data-sse-key="{key}">old</p>')
    assert texts(page, "p") == ["old"]
    site.send("news", data)
    site.finish(page)
    assert texts(page, "p") == [shown]


def test_text_verbatim(page: Page, site: Site) -> None:
    """Text that is no JSON, or would be changed by reading it as JSON, is shown as it was sent."""
    site.open(page, '<pre data-sse-on="word"></pre><b data-sse-on="number"></b>')
    site.send_all({"event": "word", "text": "{not\n  json"}, {"event": "number", "text": "1.10"})
    site.finish(page)
    assert texts(page, "pre, b") == ["{not\n  json", "1.10"]


def test_names_of_event_source_itself(page: Page, site: Site) -> None:
    """An element that asks for "open" or "error" is left alone: EventSource fires these itself."""
    site.open(page, '<p data-sse-on="open error">old</p>')
    site.finish(page)
    assert texts(page, "p") == ["old"]


def test_value(page: Page, site: Site) -> None:
    """A form field gets the data as its value."""
    site.open(page, '<input data-sse-on="news" data-sse-swap="value" data-sse-key="a">')
    site.send("news", {"a": "<b>"})
    expect(page.locator("input")).to_have_value("<b>")


def test_bars(page: Page, site: Site) -> None:
    """A bar gets the data's number as its length, of a job its percents; without a number it has none."""
    site.open(
        page,
        """
        <progress data-sse-on="progress"></progress>
        <progress data-sse-on="progress" data-sse-key="done" max="8"></progress>
        <meter data-sse-on="progress"></meter>
        <ol>
          <template data-sse-on="progress">
            <li id="job-" data-sse-id="id"><i data-sse-key="label"></i><progress data-sse-key></progress></li>
          </template>
        </ol>
        """,
    )
    read = "(bars) => bars.map(({ value, max, position }) => [value, max, position ?? null])"
    bars, nodes = page.locator("progress, meter"), 0
    for total, percent in ((8, 25), (None, None)):
        for job in ("a", "b"):
            data = {
                "id": job,
                "label": job,
                "done": 2,
                "total": total,
                "percent": percent,
                "state": "running",
            }
            site.send("progress", data)
        site.finish(page)
        unknown = percent is None
        whole = [0, 100, -1] if unknown else [25, 100, 0.25]
        of_meter = [0 if unknown else 25, 100, None]
        assert bars.evaluate_all(read) == [whole, [2, 8, 0.25], of_meter, whole, whole]
        nodes = nodes or page.locator("ol").evaluate("(list) => list.childNodes.length")
    assert [text.strip() for text in texts(page, "li")] == ["a", "b"]
    assert page.locator("ol").evaluate("(list) => list.childNodes.length") == nodes, "no blanks pile up"
    site.send("progress", text='{"percent":1e999}')
    site.send("progress", {"percent": "<b>"})
    site.send("progress", {"percent": "12.5 %"})
    site.finish(page)
    assert bars.first.evaluate("(bar) => bar.value") == 12.5


def test_append_and_prepend(page: Page, site: Site) -> None:
    """A list gets a child that fits it, at either end, and keeps as many as data-sse-max says."""
    site.open(
        page,
        """
        <ol data-sse-on="news" data-sse-swap="append" data-sse-max="3"><li>old</li></ol>
        <div id="log" data-sse-on="news" data-sse-swap="prepend" data-sse-max="2" data-sse-key="a"></div>
        <menu data-sse-on="news" data-sse-swap="append" data-sse-key="a"><li>old</li></menu>
        """,
    )
    site.send_all(*({"event": "news", "data": {"a": number}} for number in range(4)))
    site.finish(page)
    assert texts(page, "ol > li") == ['{"a":1}', '{"a":2}', '{"a":3}']
    assert texts(page, "#log > div") == ["3", "2"]
    assert texts(page, "menu > li") == ["old", "0", "1", "2", "3"]


def test_remove(page: Page, site: Site) -> None:
    """An element can go when the event comes."""
    site.open(page, '<p data-sse-on="over" data-sse-swap="remove">Wait.</p>')
    expect(page.locator("p")).to_have_count(1)
    site.send("over")
    expect(page.locator("p")).to_have_count(0)


def test_template(page: Page, site: Site) -> None:
    """A template is cloned into its parent, its keyed elements filled; data-sse-max does not count it."""
    site.open(
        page,
        """
        <table><tbody>
          <template data-sse-on="row" data-sse-max="2">
            <tr><td data-sse-key="name"></td><td><b data-sse-key="price.bid">none</b></td></tr>
          </template>
        </tbody></table>
        <ul>
          <li>old</li>
          <template data-sse-on="row" data-sse-swap="prepend"><li data-sse-key="name"></li></template>
        </ul>
        """,
    )
    site.send_all(*({"event": "row", "data": {"name": name, "price": {"bid": 7}}} for name in "abc"))
    site.finish(page)
    assert texts(page, "tr") == ["b7", "c7"]
    assert texts(page, "li") == ["c", "b", "a", "old"]


def test_template_with_id(page: Page, site: Site) -> None:
    """What carries an id takes the place of the one that its parent has, and can be removed by it."""
    site.open(
        page,
        """
        <p id="article-3">elsewhere</p>
        <ul>
          <li id="article-1">one</li>
          <li id="article-2">two</li>
          <template data-sse-on="saved">
            <li id="article-" data-sse-id="pk"><b data-sse-key="title"></b></li>
          </template>
          <template data-sse-on="deleted" data-sse-swap="remove">
            <li id="article-" data-sse-id="pk"></li>
          </template>
        </ul>
        """,
    )
    site.send("saved", {"pk": 3, "title": "three"})
    site.send("saved", {"pk": 1, "title": "ONE"})
    site.send("deleted", {"pk": 2})
    site.send("deleted", {"pk": 4})
    site.send("saved", {"pk": 3, "title": "THREE"})
    site.finish(page)
    assert texts(page, "li") == ["ONE", "THREE"]
    assert texts(page, "p") == ["elsewhere"]


@pytest.mark.parametrize(
    "payload",
    [
        '<img src="x" onerror="window.hacked = 1">',
        "</script><script>window.hacked = 1</script>",
        '"><svg onload="window.hacked = 1">',
        "{{ constructor }}",
        "\u2028 \x85 ]]> <!-- -->",
    ],
)
def test_hostile_data(page: Page, site: Site, payload: str) -> None:
    """Whatever stands in the data is shown as the text that it is."""
    site.open(
        page,
        """
        <p data-sse-on="news" data-sse-key="a"></p>
        <div data-sse-on="news" data-sse-swap="append" data-sse-key="a"></div>
        <ul>
          <template data-sse-on="news"><li id="a-" data-sse-id="a" data-sse-key="a"></li></template>
        </ul>
        <input data-sse-on="news" data-sse-swap="value" data-sse-key="a">
        """,
    )
    site.send("news", {"a": payload})
    site.finish(page)
    assert texts(page, "p, div > div, li") == [payload] * 3
    assert page.locator("li").get_attribute("id") == f"a-{payload}"
    assert page.locator("img, svg, p *, li *, div div *").count() == 0
    assert page.evaluate("window.hacked") is None


def test_hostile_id(page: Page, site: Site, complaints: list[str]) -> None:
    """An id that is the data's alone could pose as any element, so it is refused, and nothing is shown."""
    site.open(page, '<ul><template data-sse-on="news"><li data-sse-id="pk"></li></template></ul>')
    site.send("news", {"pk": "main"})
    site.finish(page)
    assert page.locator("li").count() == 0
    assert "data-sse-id" in complaints.pop()


def test_unknown_swaps(page: Page, site: Site, complaints: list[str]) -> None:
    """A swap that is not known there is named in the console, and keeps nothing else from being shown."""
    unknown = [
        *(("p", swap) for swap in ("outerHTML", "constructor", "__proto__")),
        *(("template", swap) for swap in ("text", "value", "attr:title", "class:on")),
    ]
    body = "".join(f'<{tag} data-sse-on="news" data-sse-swap="{swap}">old</{tag}>' for tag, swap in unknown)
    site.open(page, f'<div>{body}</div><b data-sse-on="news"></b>')
    before = page.locator("div").inner_html()
    site.send("news", "<i>new</i>")
    site.finish(page)
    assert page.locator("div").inner_html() == before
    assert texts(page, "b") == ["<i>new</i>"]
    assert all(f'data-sse-swap="{swap}"' in complaints.pop(0) for _, swap in unknown)


@pytest.mark.parametrize("by_target", [False, True])
def test_swaps(page: Page, site: Site, *, by_target: bool) -> None:
    """Each swap does what it says with text: to the element that listens, or to the one it aims at."""
    done = {
        "text": "<li>5</li>",
        "html": "<li>5</li>",
        "append": "<li><i>old</i><div>5</div></li>",
        "prepend": "<li><div>5</div><i>old</i></li>",
        "before": "<li>5</li><li><i>old</i></li>",
        "after": "<li><i>old</i></li><li>5</li>",
        "replace": "<li>5</li>",
        "remove": "",
        "attr:title": '<li title="5"><i>old</i></li>',
        "class:new": '<li class="new"><i>old</i></li>',
        "class:md:new": '<li class="md:new"><i>old</i></li>',
    }
    hears = [f' data-sse-on="news" data-sse-swap="{swap}" data-sse-key="a"' for swap in done]
    if by_target:
        body = "<ol><li><i>old</i></li></ol>" * len(hears)
        for number, heard in enumerate(hears, 1):
            body += f'<b{heard} data-sse-target="ol:nth-child({number}) > li">kept</b>'
    else:
        body = "".join(f"<ol><li{heard}><i>old</i></li></ol>" for heard in hears)
    site.open(page, body)
    site.send("news", {"a": 5})
    site.finish(page)
    lists = page.locator("ol").evaluate_all("(all) => all.map((one) => one.innerHTML)")
    clean = [text.replace(heard, "") for text, heard in zip(lists, hears, strict=True)]
    assert clean == list(done.values())
    assert texts(page, "b") == ["kept"] * len(hears) * by_target


def test_a_target_is_every_element_that_it_finds(page: Page, site: Site, complaints: list[str]) -> None:
    """All that a selector finds get the text, but for one that went with another; none is no error."""
    site.open(
        page,
        """
        <s data-sse-on="news" data-sse-target=".x"></s>
        <s data-sse-on="news" data-sse-target=".missing"></s>
        <s data-sse-on="news" data-sse-target="main >> ["></s>
        <p class="x"><i class="x">in</i></p><p class="x"></p>
        """,
    )
    site.send("news", 5)
    site.finish(page)
    assert texts(page, "p") == ["5", "5"]
    assert page.locator("i").count() == 0
    assert "main >> [" in complaints.pop()


def test_attributes(page: Page, site: Site) -> None:
    """Attributes are set from the data beside the text; false and null remove all but aria's words."""
    names = "hidden:a.b  data-state:a.b\n aria-busy:a.b"
    listens = f'data-sse-on="news" data-sse-key="a.b" data-sse-attr="{names}"'
    site.open(
        page,
        f"""
        <p hidden data-state="old" aria-busy="old" {listens}></p>
        <p class="on" data-sse-swap="class:on" {listens}></p>
        <section>
          <template data-sse-on="news" data-sse-swap="html">
            <p data-sse-key="a.b" data-sse-attr="{names}"></p>
          </template>
        </section>
        """,
    )
    read = (
        "(all) => all.map((one) => ['hidden', 'data-state', 'aria-busy'].map((it) => one.getAttribute(it)))"
    )
    for value, text, flag, words, on in [
        ("some text", "some text", "some text", "some text", True),
        (0, "0", "0", "0", False),
        (7, "7", "7", "7", True),
        ("", "", "", "", False),
        (True, "true", "", "true", True),
        (False, "false", None, "false", False),
        ([1], "[1]", "[1]", "[1]", True),
        (None, "", None, None, False),
    ]:
        site.send("news", {"a": {"b": value}})
        site.finish(page)
        assert page.locator("p").evaluate_all(read) == [[flag, flag, words]] * 3
        assert texts(page, "p") == [text, "", text]
        assert page.locator("p").nth(1).get_attribute("class") == ("on" if on else "")


def test_attributes_alone(page: Page, site: Site) -> None:
    """An element with data-sse-attr and no key keeps its content; a name without a path takes all data."""
    site.open(
        page,
        """
        <div data-sse-on="news" data-sse-attr="title data-all: lang:a"><b>kept</b></div>
        <a data-sse-on="news" data-sse-attr="href:url title:a" data-sse-key></a>
        <svg><polyline data-sse-on="news" data-sse-attr="points:p"></polyline></svg>
        """,
    )
    raw = '{"a":"de","p":"0,1 1,2","url":"/there/?x=1.10#y"}'
    site.send("news", text=raw)
    site.finish(page)
    assert page.locator("div").evaluate("(one) => [one.title, one.dataset.all, one.lang]") == [raw, raw, "de"]
    assert texts(page, "div > b, a") == ["kept", raw]
    assert page.locator("a").get_attribute("href") == "/there/?x=1.10#y"
    assert page.locator("a").get_attribute("title") == "de"
    assert page.locator("polyline").get_attribute("points") == "0,1 1,2"


def test_swaps_of_a_template(page: Page, site: Site) -> None:
    """A copy goes where the swap says, from the template or from its target, and templates stay."""
    done = [
        ("before", "", "a b 5 T c"),
        ("after", "", "a b T 5 c"),
        ("append", "", "a b T c 5"),
        ("html", "", "T 5"),
        ("replace", "", "a b T c"),
        ("before", "li", "5 a b T c"),
        ("after", "li", "a 5 b T c"),
        ("replace", "li", "5 b T c"),
        ("html", "", "T 5"),
        ("remove", "li", "b T c"),
    ]
    body = ""
    for number, (swap, target, _) in enumerate(done, 1):
        aim = f'data-sse-target="ol:nth-child({number}) > .first"' if target else ""
        body += f"""<ol><li class="first">a</li><li>b</li>
          <template data-sse-on="news" data-sse-swap="{swap}" {aim}>
            <li id="x{number}-" data-sse-id="pk" data-sse-key="pk"></li>
          </template><li>c</li></ol>"""
    site.open(page, body)
    read = """(all) => all.map(({ children }) =>
        [...children].map((one) => one.localName === "template" ? "T" : one.textContent).join(" "))"""
    # A second delivery finds what the first one put there; "remove" and "replace" have lost their target.
    for _ in range(2):
        site.send("news", {"pk": 5})
        site.finish(page)
        assert page.locator("ol").evaluate_all(read) == [left for *_, left in done]


def test_a_template_renews_only_what_is_there(page: Page, site: Site) -> None:
    """With "replace", a copy takes the place of the one with its id, and is left out where there is none."""
    site.open(
        page,
        """
        <ul><li id="row-1">one</li><li id="row-2">two</li>
          <template data-sse-on="changed" data-sse-swap="replace">
            <li id="row-" data-sse-id="pk"><b data-sse-key="name"></b></li>
          </template></ul>
        """,
    )
    site.send("changed", {"pk": 2, "name": "TWO"})
    site.send("changed", {"pk": 3, "name": "three"})
    site.finish(page)
    assert texts(page, "li") == ["one", "TWO"]


@pytest.mark.parametrize(
    ("swap", "target"),
    [("append", ""), ("prepend", "ul"), ("replace", ""), ("replace", "#row-1"), ("html", "")],
)
def test_templates_keep_the_focus(page: Page, site: Site, swap: str, target: str) -> None:
    """Whoever is in a field of a row that comes anew is in the new one, with the same selection."""
    aim = f'data-sse-target="{target}"' if target else ""
    site.open(
        page,
        f"""
        <ul><li id="row-1"><input id="name" value="abcdef"></li>
          <template data-sse-on="saved" data-sse-swap="{swap}" {aim}>
            <li id="row-" data-sse-id="pk"><input id="name" data-sse-attr="value:name"></li>
          </template></ul>
        """,
    )
    page.locator("#name").focus()
    page.evaluate("document.getElementById('name').setSelectionRange(2, 4)")
    site.send("saved", {"pk": 1, "name": "12345"})
    expect(page.locator("#name")).to_have_value("12345")
    expect(page.locator("#name")).to_be_focused()
    chosen = "(({ selectionStart, selectionEnd }) => [selectionStart, selectionEnd])(document.activeElement)"
    assert page.evaluate(chosen) == [2, 4]
    assert page.locator("li").count() == 1


def test_elements_that_come_later(page: Page, site: Site) -> None:
    """Elements that a script adds, and names that it changes, hear of events from then on."""
    site.open(page, '<p id="p"></p><div id="box"></div>')
    site.finish(page)
    page.evaluate("box.innerHTML = '<section><b data-sse-on=\"first\"></b></section>'")
    page.evaluate("p.dataset.sseOn = 'second'")
    site.send("first", 1)
    site.send("second", 2)
    expect(page.locator("b")).to_have_text("1")
    expect(page.locator("p")).to_have_text("2")


def test_handlers(page: Page, site: Site, complaints: list[str]) -> None:
    """`sse.on` calls with the data and the detail until it is undone; one that throws ends nothing."""
    site.open(page, '<b data-sse-on="news"></b>')
    page.evaluate(
        """() => {
            calls = [];
            sse.on("news", () => { throw new Error("of the page"); });
            undo = sse.on("news", (...heard) => calls.push(heard));
        }"""
    )
    site.send("news", {"a": 1})
    site.finish(page)
    page.evaluate("undo()")
    site.send("news", {"a": 2})
    site.finish(page)
    [[data, detail]] = page.evaluate("calls")
    assert data == {"a": 1}
    assert detail.pop("id").startswith("1~")
    assert detail == {"event": "news", "data": {"a": 1}, "raw": '{"a":1}'}
    assert texts(page, "b") == ['{"a":2}']
    assert [complaints.pop(), complaints.pop()] == ["of the page"] * 2


def test_dom_events(page: Page, site: Site) -> None:
    """Every event bubbles from the stream's element; who prevents its default keeps it from the elements."""
    site.open(
        page,
        """
        <script>
          heard = [];
          for (const name of ["sse:news", "sse:secret", "sse-open", "sse-reset", "sse-state"])
            document.addEventListener(name, ({ target, detail }) => {
              heard.push([name, target.localName, detail]);
            });
          addEventListener("sse:secret", (event) => event.preventDefault());
        </script>
        <b data-sse-on="news"></b><i data-sse-on="secret">old</i>
        """,
    )
    site.send("news", 1)
    site.send("secret", 2)
    site.finish(page)
    names, targets, details = zip(*page.evaluate("heard"), strict=True)
    assert names == ("sse-state", "sse-state", "sse-open", "sse:news", "sse:secret")
    assert set(targets) == {"sse-stream"}
    assert details[:2] == ({"state": "connecting"}, {"state": "open"})
    assert details[2]["data"]["topics"] == [site.topic]
    assert details[3]["data"] == 1
    assert texts(page, "b, i") == ["1", "old"]
