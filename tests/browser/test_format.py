"""The script reads the format as the standard has it, wherever the network cuts it.

The cases are those of the web platform's own tests (eventsource/format-*), and some more.
"""

from collections.abc import Callable, Sequence

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Site, wait_for_state
from tests.browser.proxy import Proxy, Request

pytestmark = pytest.mark.browser

#: What is heard of a body: name, data and last id of each event.
Heard = Sequence[tuple[str, str, str]]
CASES: dict[str, tuple[str, Heard]] = {
    "bom": (
        "\ufeffdata:1\n\n\ufeffdata:2\n\ndata:3\n\n",
        [("message", "1", ""), ("message", "3", "")],
    ),
    "two boms": (
        "\ufeff\ufeffdata:1\n\ndata:2\n\ndata:3\n\n",
        [("message", "2", ""), ("message", "3", "")],
    ),
    "comments": (
        f"data:1\r:\0\n:\r\ndata:2\n:{'x' * 200}\rdata:3\n:data:fail\r:{'x' * 200}\ndata:4\n\n",
        [("message", "1\n2\n3\n4", "")],
    ),
    "data": ("data:\n\ndata\ndata\n\ndata:test\n\n", [("message", text, "") for text in ("", "\n", "test")]),
    "data of many lines": ("data: a\ndata:\ndata:  b\n\n", [("message", "a\n\n b", "")]),
    "event": ("event:test\ndata:x\n\ndata:y\n\n", [("test", "x", ""), ("message", "y", "")]),
    "an empty event": ("event: \ndata:x\n\n", [("message", "x", "")]),
    "the last event counts": ("event:one\nevent:two\ndata:x\n\n", [("two", "x", "")]),
    "an event without data": ("event:test\n\ndata:x\n\n", [("message", "x", "")]),
    "id": ("id:1\ndata:x\n\ndata:y\n\n", [("message", "x", "1"), ("message", "y", "1")]),
    "an id without data": ("id:1\n\ndata:x\n\n", [("message", "x", "1")]),
    "an id behind its data": ("data:x\nid: 1\n\n", [("message", "x", "1")]),
    "an empty id": ("id:1\ndata:x\n\nid\ndata:y\n\n", [("message", "x", "1"), ("message", "y", "")]),
    "an id with NUL": ("id:1\ndata:x\n\nid:2\0\ndata:y\n\n", [("message", "x", "1"), ("message", "y", "1")]),
    "fields": (
        "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n a\n\n",
        [("message", "\0\n 2\n1\n3\n", "")],
    ),
    "unknown fields": (
        "data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
        [("message", "test\n\ntest", "")],
    ),
    "colons": ("data:a:b: c\ndata: : \n\n", [("message", "a:b: c\n: ", "")]),
    "leading space": ("data:\ttest\rdata: \ndata:test\n\n", [("message", "\ttest\n\ntest", "")]),
    "line ends": ("data:test\r\ndata\ndata:test\r\n\r", [("message", "test\n\ntest", "")]),
    "CR only": ("event:a\rdata:1\r\rdata:2\r\r", [("a", "1", ""), ("message", "2", "")]),
    "CR LF only": ("event:a\r\ndata:1\r\n\r\ndata:2\r\n\r\n", [("a", "1", ""), ("message", "2", "")]),
    "empty lines": ("\n\r\n\r\r\n\ndata:1\n\n\n\n\ndata:2\n\n", [("message", "1", ""), ("message", "2", "")]),
    "NUL": ("data:\0\n\n\n\n", [("message", "\0", "")]),
    "characters": (
        "id:…\nevent:ü\ndata:ok…\U0001f600\u2028\x85\x0b\x0c\n\n",
        [("ü", "ok…\U0001f600\u2028\x85\x0b\x0c", "…")],
    ),
    "an unfinished block": ("data:1\n\nid:2\ndata:2", [("message", "1", "")]),
    "an unfinished block of whole lines": ("data:1\n\nid:2\ndata:2\n", [("message", "1", "")]),
    "nothing": (":\n\nretry:100\n\n", []),
}
NAMES = sorted({name for _, heard in CASES.values() for name, _, _ in heard} | {"one"})

#: Reads each body cut in two at each of its bytes, byte for byte, and whole; returns what was heard of each.
READ = """async ([bodies, names]) => {
    const pieces = new Map();
    const really = fetch;
    window.fetch = async (url, ...others) => {
        const its = pieces.get(new URL(url).searchParams.get("cut"));
        if (!its) return really(url, ...others);
        const body = new ReadableStream({
            pull(controller) {
                if (its.length) controller.enqueue(its.shift());
                else controller.close();
            },
        }, { highWaterMark: 0 });
        return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
    };
    const read = (cut) => new Promise((done) => {
        const element = document.createElement("sse-stream");
        element.setAttribute("src", `/events/?cut=${encodeURIComponent(cut)}`);
        const heard = [];
        const hear = ({ detail: { event, raw, id } }) => heard.push([event, raw, id]);
        for (const name of names) element.addEventListener(`sse:${name}`, hear);
        element.addEventListener("sse-state", ({ detail: { state } }) => {
            if (state !== "reconnecting") return;
            element.remove();
            done([cut, heard]);
        });
        document.body.append(element);
    });
    for (const [name, text] of Object.entries(bodies)) {
        const body = new TextEncoder().encode(text);
        for (let cut = 0; cut < body.length; cut++)
            pieces.set(`${name} ${cut}`, [body.slice(0, cut), body.slice(cut)].filter((it) => it.length));
        pieces.set(`${name} bytes`, [...body].map((byte) => new Uint8Array([byte])));
    }
    return Promise.all([...pieces.keys()].map(read));
}"""


def test_cases(page: Page, proxied: Site) -> None:
    """Each case is heard as the standard has it, in one piece, in two cut anywhere, and byte by byte."""
    proxied.open(page)
    wait_for_state(page, "open")
    bodies = {name: body for name, (body, _) in CASES.items()}
    results = page.evaluate(READ, [bodies, NAMES])
    assert len(results) == sum(len(body.encode()) + 1 for body in bodies.values())
    wrong = []
    for cut, heard in results:
        expected = [list(event) for event in CASES[cut.rpartition(" ")[0]][1]]
        if heard != expected:
            wrong.append((cut, heard, expected))
    assert wrong == []


#: Of each answer: the type of its content, its body in pieces, the data heard, and the id sent next.
ANSWERS: dict[str, tuple[str, Sequence[bytes], Sequence[str], str]] = {
    "pieces": ("", [b"\xef\xbb", b"\xbfdata: \xc3", b"\xa4\r", b"\n\r", b"\n"], ["ä"], ""),
    "id": ("", [b"id:1\ndata:x\n\nid:2\ndata:y\n"], ["x"], "1"),
    "id-unset": ("", [b"id:1\ndata:x\n\nid\n\n"], ["x"], ""),
    "id-of-nothing": ("", [b"id:1\n\n"], [], "1"),
    "id-escaped": ("", ["id: ü&=+%\ndata:x\n\n".encode()], ["x"], "ü&=+%"),
    "charset": ("text/event-stream;charset=windows-1252", ["data:ok…\n\n".encode()], ["ok…"], ""),
    "semicolon": ("text/event-stream;", [b"data:x\n\n"], ["x"], ""),
    "case": ("Text/Event-Stream", [b"data:x\n\n"], ["x"], ""),
    "bogus": ("text/x-bogus", [b"data:x\n\n"], [], ""),
    "retry": ("", [b"retry:1500\n\nretry:10x\nretry:-1\nretry:1e1\nretry:  10\nretry\nretry:\n\n"], [], ""),
}
HEAR = """<script>
    heard = [];
    addEventListener("sse:message", ({ target, detail: { raw } }) => heard.push([target.id, raw]));
</script>"""


def test_answers(page: Page, proxied: Site, proxy: Proxy) -> None:
    """What a server answers is heard as the standard has it, and the next request says how far that was."""

    def is_of(name: str) -> Callable[[Request], bool]:
        return lambda request: name in request.query

    def requests_of(name: str) -> list[Request]:
        return list(filter(is_of(name), proxy.streams))

    for name, (content, pieces, _, _) in ANSWERS.items():
        headers = {"Content-Type": content} if content else {}
        proxy.answer(headers=headers, pieces=pieces, when=is_of(name), times=1)
        proxy.answer(204, when=is_of(name))
    elements = (f'<sse-stream id="{name}" src="/events/?{name}"></sse-stream>' for name in ANSWERS)
    proxied.open(page, HEAR + "".join(elements))
    proxy.wait_for(lambda: all(len(requests_of(name)) == 2 for name in ANSWERS))
    proxied.finish(page)
    for name, (_, _, data, last_event_id) in ANSWERS.items():
        assert [raw for own, raw in page.evaluate("heard") if own == name] == data, name
        assert requests_of(name)[1].last_event_id == last_event_id, name
    first, second = requests_of("retry")
    assert first.ended is not None
    assert second.began - first.ended >= 1.5
