"""What an event does to the page: text into elements, and nothing else."""

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


def test_unknown_swap(page: Page, site: Site, complaints: list[str]) -> None:
    """A swap that is not known is named in the console, and keeps nothing else from being shown."""
    site.open(page, '<p data-sse-on="news" data-sse-swap="html">old</p><b data-sse-on="news"></b>')
    site.send("news", "<i>new</i>")
    site.finish(page)
    assert texts(page, "p, b") == ["old", "<i>new</i>"]
    assert 'data-sse-swap="html"' in complaints.pop()


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
