"""The documents are true: their examples run, and they name what there is."""

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from html import unescape
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.template.utils import EngineHandler
from django.test import RequestFactory
from django.utils.module_loading import import_string
from pytest_django import Settings as ProjectSettings

import django_sse
from django_sse import fragments
from django_sse.conf import Settings, get_settings
from django_sse.history import BaseHistory, MemoryHistory, get_history
from django_sse.history.redis import RedisHistory
from django_sse.positions import Cursor
from django_sse.responses import HEADERS
from django_sse.templatetags import sse as sse_tags
from django_sse.wire import Message, Parser
from tests import policies
from tests.policies import SENDERS, policy_of
from tests.servers.process import ROOT, ServerProcess
from tests.servers.redis import RedisServer

DOCS = ROOT / "docs"
README = ROOT / "README.md"
TUTORIAL = DOCS / "tutorial.md"
SETTINGS = DOCS / "reference" / "settings.md"
PYTHON = DOCS / "reference" / "python.md"
HTML = DOCS / "reference" / "html.md"
WIRE = DOCS / "reference" / "wire.md"
JINJA = DOCS / "how-to" / "jinja.md"
ARCHITECTURE = DOCS / "explanation" / "architecture.md"
COMMANDS = DOCS / "reference" / "commands.md"
SERVERS = DOCS / "how-to" / "servers.md"  # whose examples are run by tests/servers/test_nginx.py
#: How-to pages that add to the project of the tutorial.
NAMES = ("transactions", "tests", "from-django-eventstream", "from-channels-websockets")
GUIDES = [DOCS / "how-to" / f"{name}.md" for name in NAMES]
REDIS = DOCS / "how-to" / "redis.md"
DOCUMENTS = [README, *sorted(DOCS.rglob("*.md"))]

STATIC = ROOT / "django_sse" / "static" / "django_sse"
SCRIPT = (STATIC / "sse.js").read_text()
WIDGETS = (STATIC / "widgets.js").read_text()
PASSWORD = "of the tests"

_Item = TypeVar("_Item")


# -- reading documents ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block; one that begins with a file's name in a comment is that file, or its end."""

    language: str
    text: str
    path: str | None
    at_the_end: bool


_FENCE = re.compile(r"^```(?P<language>[\w+]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r"(?:# |\{# )(?P<path>[\w/]+/\w+\.\w+)(?P<end>, at the end)?(?: #\})?\n")


def blocks(document: Path) -> list[Block]:
    """Return the blocks of a document."""
    found = []
    for fence in _FENCE.finditer(document.read_text()):
        title = _TITLE.match(fence["text"])
        found.append(
            Block(
                language=fence["language"],
                text=fence["text"],
                path=title and title["path"],
                at_the_end=title is not None and title["end"] is not None,
            )
        )
    return found


def commands(block: Block) -> list[list[str]]:
    """Return the words of the commands of a block."""
    return [shlex.split(line, comments=True) for line in block.text.splitlines()]


def described(document: Path, pattern: str) -> set[str]:
    """Return what a document describes, by the first group of a pattern at the beginning of its lines."""
    return set(re.findall(rf"^{pattern}", document.read_text(), re.MULTILINE))


# -- doing what they say ----------------------------------------------------------------------------


def manage(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python as a reader would, in the reader's folder."""
    # pytest-django has put the tests' own settings into the environment.
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    env |= {"PYTHONPATH": str(ROOT), "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def follow(document: Path, folder: Path) -> None:
    """Write the files of a document and run its commands, in their order."""
    for block in blocks(document):
        if block.path is not None:
            file = folder / block.path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a" if block.at_the_end else "w") as opened:
                opened.write(block.text)
        elif block.language == "sh":
            for words in commands(block):
                # Environment and server are the tests' own; the shell has a test.
                if words[0] == "python" and not {"venv", "pip", "runserver", "shell"} & set(words):
                    answers = ["--noinput"] if "createsuperuser" in words else []
                    run = manage(folder, *words[1:], *answers)
                    assert run.returncode == 0, (words, run.stderr)


class Runserver(ServerProcess):
    """The server that the documents start; its argument is the project's folder."""

    __slots__ = ()

    def command(self) -> list[str]:
        """Word `python manage.py runserver`."""
        manage_py = f"{self.arguments[0]}/manage.py"
        return [sys.executable, manage_py, "runserver", "--noreload", f"{self.host}:{self.port}"]


def runserver(folder: Path) -> Runserver:
    """Return the server of a project."""
    return Runserver(kind="daphne", log=folder / "log", settings="mysite.settings", arguments=[str(folder)])


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the tutorial's project, from its own blocks and commands."""
    folder = tmp_path_factory.mktemp("tutorial")
    follow(TUTORIAL, folder)
    return folder


@pytest.fixture(scope="module")
def board(tutorial: Path) -> Iterator[ServerProcess]:
    """Serve the tutorial's project."""
    with runserver(tutorial) as server:
        yield server


class Visitor(httpx.Client):
    """A person's browser, without its scripts."""

    def submit(self, path: str, *, form: str | None = None, **data: str) -> httpx.Response:
        """Send a form that stands in a page, with the token that guards it."""
        self.get(form or path)
        token = self.cookies["csrftoken"]
        answer = self.post(path, data={"csrfmiddlewaretoken": token, **data})
        assert answer.status_code == httpx.codes.FOUND, answer.text
        return answer

    @contextmanager
    def stream(  # type: ignore[override]  # of events
        self, path: str, *, last_event_id: str = ""
    ) -> Iterator[Iterator[Message]]:
        """Open a stream, and give its messages."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        with super().stream("GET", path, headers=headers) as response:
            response.raise_for_status()
            yield _messages(response)


def _messages(response: httpx.Response) -> Iterator[Message]:
    parser = Parser()
    for chunk in bounded(response.iter_bytes()):
        yield from parser.feed(chunk)


def bounded(items: Iterable[_Item], *, seconds: float = 60) -> Iterator[_Item]:
    """Give what comes in time: each heartbeat begins httpx's own timeout anew."""
    deadline = time.monotonic() + seconds
    for item in items:
        if time.monotonic() > deadline:
            raise TimeoutError(f"more than {seconds} s")
        yield item


Visit = Callable[..., Visitor]


@pytest.fixture
def visit() -> Iterator[Visit]:
    """Return `visit(server, ada=False)`: a visitor of a server, who may sign in as Ada."""
    visitors = []

    def come(server: ServerProcess, *, ada: bool = False) -> Visitor:
        visitor = Visitor(base_url=server.base_url, timeout=30)
        visitors.append(visitor)
        if ada:
            visitor.submit("/admin/login/", username="ada", password=PASSWORD, next="/admin/")
        return visitor

    yield come
    for visitor in visitors:
        visitor.close()


# -- the tutorial -----------------------------------------------------------------------------------


@pytest.mark.servers
def test_the_page_of_the_tutorial_is_connected(board: ServerProcess, visit: Visit) -> None:
    """Its page holds the stream's element, and the script that it loads is served."""
    visitor = visit(board)
    page = visitor.get("/").text

    assert re.search(
        r'<sse-stream src="/events/\?topic=board&amp;share=[\w-]{22}" last-id="1~[^"]+" hidden>', page
    )
    assert (
        visitor.get(re.findall(r'<script src="([^"]+)"', page)[0]).text == (STATIC / "sse.min.js").read_text()
    )


@pytest.mark.servers
def test_the_stream_of_the_tutorial_is_as_shown(board: ServerProcess, visit: Visit) -> None:
    """A notice written in the admin comes over HTTP in the very words that the tutorial shows."""
    with httpx.stream("GET", f"{board.base_url}/events/?topic=board", timeout=30) as response:
        lines = (line for line in bounded(response.iter_lines()) if line != ":")
        seen = [next(lines) for _ in range(5)]
        visit(board, ada=True).submit("/admin/board/notice/add/", text="Tea at four")
        seen += [next(lines) for _ in range(4)]

    (shown,) = [block.text for block in blocks(TUTORIAL) if block.text.startswith("retry: ")]
    assert _without_chance("\n".join([*seen, ""])) == _without_chance(shown)


def _without_chance(stream: str) -> str:
    """Return a stream without what differs from run to run: retry, offsets, tags, keys."""
    return re.sub(r'(?<=retry: )\d+|\d+\.[0-9a-f]{10}|(?<="pk":)\d+', "...", stream)


@pytest.mark.servers
def test_a_stream_goes_on_from_its_last_id(board: ServerProcess, visit: Visit) -> None:
    """What was written while a client was away comes first when it brings its last id."""
    editor, reader = visit(board, ada=True), visit(board)
    with reader.stream("/events/?topic=board") as messages:
        last = next(messages).id
    editor.submit("/admin/board/notice/add/", text="While you were away")
    with reader.stream("/events/?topic=board", last_event_id=last) as messages:
        assert next(messages).name == "sse-open"
        missed = next(messages)

    assert missed.name == "notice-created"
    assert json.loads(missed.text)["text"] == "While you were away"


@pytest.mark.servers
def test_a_knock_reaches_one_person(board: ServerProcess, visit: Visit) -> None:
    """The knock is on Ada's stream and on no other; a later notice is on both."""
    ada, somebody = visit(board, ada=True), visit(board)
    with (
        ada.stream("/events/?topic=board") as hers,
        somebody.stream("/events/?topic=board") as others,
    ):
        assert [next(hers).name, next(others).name] == ["sse-open", "sse-open"]
        visit(board).submit("/knock/ada/", form="/")
        visit(board, ada=True).submit("/admin/board/notice/add/", text="For everybody")

        assert [next(hers).name, next(hers).name] == ["knock", "notice-created"]
        assert next(others).name == "notice-created"


@pytest.mark.servers
def test_a_restart_resets(board: ServerProcess, visit: Visit, tutorial: Path, tmp_path: Path) -> None:
    """A client that comes back to a server which was started again is told before anything else."""
    with visit(board).stream("/events/?topic=board") as messages:
        last = next(messages).id
    # Another process with the same project: to a client this is a restart.
    again = runserver(shutil.copytree(tutorial, tmp_path / "again"))
    with again, visit(again).stream("/events/?topic=board", last_event_id=last) as messages:
        assert [next(messages).name, next(messages).name] == ["sse-open", "sse-reset"]


def test_the_shell_of_the_tutorial_says_that_nobody_hears(tutorial: Path) -> None:
    """The command that sends from a shell works, and warns in the words that the tutorial shows."""
    found = blocks(TUTORIAL)
    (words,) = [
        words
        for block in found
        if block.language == "sh"
        for words in commands(block)
        if words[:3] == ["python", "manage.py", "shell"]
    ]
    (shown,) = [block.text for block in found if block.text.startswith("Nobody hears")]
    run = manage(tutorial, *words[1:])

    assert run.returncode == 0, run.stderr
    assert shown.strip() in run.stderr


# -- README -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a project by the blocks of the README, on what `startproject` makes."""
    folder = tmp_path_factory.mktemp("readme")
    for words in ("-m django startproject mysite .", "manage.py startapp news", "manage.py migrate"):
        run = manage(folder, *words.split())
        assert run.returncode == 0, run.stderr
    shutil.copy(folder / "mysite" / "asgi.py", folder / "asgi-of-startproject")
    follow(README, folder)
    return folder


@pytest.mark.servers
@pytest.mark.parametrize("program", ["runserver", "uvicorn"])
def test_five_minutes_are_enough(readme: Path, visit: Visit, tmp_path: Path, program: str) -> None:
    """What somebody publishes in the README's page arrives on another's stream."""
    uvicorn = ServerProcess(
        kind="uvicorn",
        log=tmp_path / "log",
        application="mysite.asgi:application",
        settings="mysite.settings",
        environment={"PYTHONPATH": f"{readme}{os.pathsep}{ROOT}"},
    )
    with runserver(readme) if program == "runserver" else uvicorn as server:
        editor, reader = visit(server), visit(server)
        (address,) = re.findall(r'<sse-stream src="([^"]+)"', reader.get("/").text)
        with reader.stream(unescape(address)) as messages:
            assert next(messages).name == "sse-open"
            editor.submit("/", text="It works")
            headline = next(messages)

    assert headline.name == "headline"
    assert json.loads(headline.text) == {"text": "It works"}


def test_asgi_stays_as_it_was(readme: Path) -> None:
    """The README's asgi.py is that of `startproject`, but for its docstring and one import."""
    theirs = ast.parse((readme / "asgi-of-startproject").read_text()).body[1:]
    shown = ast.parse((readme / "mysite" / "asgi.py").read_text()).body

    lines = [line.replace("django_sse.asgi", "django.core.asgi") for line in map(ast.unparse, shown)]
    assert lines == list(map(ast.unparse, theirs))


def test_readme_points_at_what_is_there() -> None:
    """Its pictures, links, commands and extras exist."""
    text = README.read_text()
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    programs = [words for block in blocks(README) if block.language == "sh" for words in commands(block)]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
    for words in programs:
        assert words[0] == "python" or os.access(ROOT / words[0], os.X_OK), words
    assert set(re.findall(r'pip install "\.\[(\w+)\]"', text)) <= set(extras)


def test_readme_shows_what_was_measured() -> None:
    """Each row of its tables of speed and faults has the figures of the page that tells how."""
    speed, faults = (DOCS / "explanation" / name for name in ("performance.md", "promise.md"))
    sections = README.read_text().partition("## Measured")[2].partition("## Beside")[0].split("\n\n")
    tables = [_rows(section) for section in sections if section.startswith("| ")]
    measured = {
        row[0]: row for row in reversed(_rows(speed.read_text())) if len(row) == 14
    }  # the first table

    for name, *figures in tables[0]:
        row = measured[README_NAMES.get(name, name.strip("*"))]
        assert [row[1], row[6], row[9], row[10]] == figures, name
    assert [row for row in tables[1] if row not in _rows(faults.read_text())] == []


#: What the README calls servers in words of its own.
README_NAMES = {
    "bare ASGI, the limit in Python": "bare ASGI",
    "django_sse, under Django's own handler": "django_sse, plain",
}


def _rows(text: str) -> list[list[str]]:
    """Return the cells of a text's tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and set(line) != set("| -")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_readme_leads_to_every_page() -> None:
    """Every document is one step away."""
    linked = set(re.findall(r"\]\(([^)#]+)", README.read_text()))
    pages = {str(page.relative_to(ROOT)) for page in DOCS.rglob("*.md")}

    assert pages - linked == {"docs/index.md"}


def test_the_changelog_begins_with_this_version() -> None:
    """Its newest section is that of the package's version, which pyproject.toml has too."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]

    assert newest == version == django_sse.__version__


# -- the reference of Python ------------------------------------------------------------------------

RUN_EXAMPLES = """
import ast, asyncio, inspect, json, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
import django
django.setup()
names = {}
for example in json.load(sys.stdin):
    code = compile(example, example, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)
"""


@pytest.fixture(scope="module")
def extended(tutorial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the tutorial's project with the files of the reference."""
    folder = shutil.copytree(tutorial, tmp_path_factory.mktemp("extended"), dirs_exist_ok=True)
    follow(PYTHON, folder)
    return folder


@pytest.fixture(scope="module")
def rooms(extended: Path) -> Iterator[ServerProcess]:
    """Serve the tutorial's project with the files of the reference."""
    with runserver(extended) as server:
        yield server


def test_the_examples_of_the_reference_run(extended: Path) -> None:
    """Every example that is no file runs, in their order, with what the ones before have made."""
    examples = [block.text for block in blocks(PYTHON) if block.language == "python" and block.path is None]
    run = manage(extended, "-c", RUN_EXAMPLES, stdin=json.dumps(examples))

    assert examples
    assert run.returncode == 0, run.stderr


def test_the_tests_of_the_reference_pass(extended: Path) -> None:
    """The test that reads a stream is found by Django's runner, and passes."""
    run = manage(extended, "manage.py", "test")

    assert "Ran 1 test" in run.stderr
    assert run.returncode == 0, run.stderr


@pytest.mark.servers
def test_the_rules_of_the_reference(rooms: ServerProcess, visit: Visit) -> None:
    """Ada, who is staff and in no group, may follow a draft and no room; somebody else may neither."""
    path = "/events/?topic=board&topic=draft.tea&topic=room.5"
    for ada, followed, refused in (
        (True, ["user.1", "board", "draft.tea"], ["room.5"]),
        (False, ["board"], ["draft.tea", "room.5"]),
    ):
        with visit(rooms, ada=ada).stream(path) as messages:
            opened = json.loads(next(messages).text)
            assert (opened["topics"], opened["refused"]) == (followed, refused)


@pytest.mark.servers
def test_the_model_events_of_the_reference(rooms: ServerProcess, visit: Visit) -> None:
    """Signing in saves the user, which that user's other pages hear."""
    with visit(rooms, ada=True).stream("/events/") as messages:
        assert next(messages).name == "sse-open"
        visit(rooms, ada=True)
        updated = next(messages)

    assert updated.name == "user-updated"
    assert json.loads(updated.text) == {"pk": 1, "name": ""}


@pytest.mark.servers
def test_the_views_of_the_reference(rooms: ServerProcess, visit: Visit) -> None:
    """One view sends how things stand before anything else; the other asks a permission instead of a rule."""
    with visit(rooms).stream("/board/events/") as messages:
        opened, count = next(messages), next(messages)
        assert json.loads(opened.text)["topics"] == ["board"]
        assert count.name == "count"
        assert count.text.isdigit()

    with visit(rooms, ada=True).stream("/rooms/5/events/") as messages:
        assert json.loads(next(messages).text)["topics"] == ["room.5"]
    assert visit(rooms).get("/rooms/5/events/").status_code == httpx.codes.FORBIDDEN


@pytest.mark.servers
def test_the_response_of_the_reference(rooms: ServerProcess, visit: Visit) -> None:
    """The countdown comes, ends, and is not begun again by a browser that comes back."""
    visitor = visit(rooms)
    with visitor.stream("/countdown/") as messages:
        *counted, start, end = messages

    assert [json.loads(message.text) for message in counted] == [{"left": 3}, {"left": 2}, {"left": 1}]
    assert (start.name, start.text) == ("lift-off", "Go")
    assert (end.name, json.loads(end.text)["reconnect"]) == ("sse-close", False)
    again = visitor.get("/countdown/", headers={"Last-Event-ID": end.id})
    assert again.status_code == httpx.codes.NO_CONTENT


@pytest.mark.servers
def test_the_counters_of_the_reference(rooms: ServerProcess, visit: Visit) -> None:
    """A stream that is open is counted, and every figure is described."""
    visitor = visit(rooms)
    with visitor.stream("/events/?topic=board") as messages:
        next(messages)
        figures = visitor.get("/figures/").json()

    assert figures["streams"] >= 1
    assert figures["missed"] == figures["unsent"] == 0
    (text,) = re.findall(
        r"^:::\{py:class\} Snapshot$(.*?)^:::$", PYTHON.read_text(), re.MULTILINE | re.DOTALL
    )
    described = re.findall(r"^`(.+)`$", text, re.MULTILINE)
    assert set(figures) == {name for line in described for name in line.split("`, `")}


_DIRECTIVE = re.compile(
    r"^:{3,}\{py:(?P<kind>\w+)\} (?P<name>[\w.]+)(?:\((?P<arguments>.*)\))?$", re.MULTILINE
)


def with_arguments() -> Iterator[tuple[str, str, str]]:
    """Give what the reference shows with arguments: its module, its name there, and these."""
    module = owner = ""
    for kind, name, arguments in _DIRECTIVE.findall(PYTHON.read_text()):
        if kind in {"module", "currentmodule"}:
            module = name
        elif kind == "method":
            yield module, f"{owner}.{name}", arguments
        elif kind in {"function", "class"}:
            owner = name
            # A class without arguments is not for the project to make.
            if kind == "function" or (kind == "class" and arguments):
                yield module, name, arguments


def test_every_public_name_is_in_the_reference() -> None:
    """What the package exports is described, and what it does not export is not described as its own."""
    text = PYTHON.read_text()
    # Each part of the text belongs to the module that was named last.
    by_module: dict[str, set[str]] = {}
    module = ""
    for kind, name in re.findall(r"^:{3,}\{py:(\w+)\} ([\w.]+)", text, re.MULTILINE):
        if kind in {"module", "currentmodule"}:
            module = name
        elif kind not in {"method", "attribute"}:
            by_module.setdefault(module, set()).add(name)

    for name, names in by_module.items():
        module_itself = import_module(name)
        assert {one for one in names if not hasattr(module_itself, one)} == set(), name
        assert names == set(getattr(module_itself, "__all__", names)), name


@pytest.mark.parametrize(("module", "name", "shown"), list(with_arguments()))
def test_arguments_are_those_of_the_code(module: str, name: str, shown: str) -> None:
    """The arguments and defaults of a function, class or method in the reference are those that it has."""
    public = attrgetter(name)(import_module(module))
    plain = inspect.signature(public)
    plain = plain.replace(
        parameters=[
            each.replace(annotation=inspect.Parameter.empty)
            for each in plain.parameters.values()
            if each.name != "self"
        ],
        return_annotation=inspect.Signature.empty,
    )

    assert ast.unparse(ast.parse(f"def f({shown}): ...")) == ast.unparse(ast.parse(f"def f{plain}: ..."))


# -- how-to -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", GUIDES, ids=[guide.stem for guide in GUIDES])
def test_the_examples_of_a_how_to_run(guide: Path, tutorial: Path, tmp_path: Path) -> None:
    """Its files stand in the tutorial's project, its other examples run there, and so do its tests."""
    folder = shutil.copytree(tutorial, tmp_path / "site")
    follow(guide, folder)
    examples = [block.text for block in blocks(guide) if block.language == "python" and block.path is None]
    run = manage(folder, "-c", RUN_EXAMPLES, stdin=json.dumps(examples))
    assert run.returncode == 0, run.stderr

    checked = manage(folder, "manage.py", "check")
    assert checked.returncode == 0, checked.stderr
    modules = {block.path for block in blocks(guide) if block.language == "python" and block.path}
    for module in modules - {"mysite/settings.py"}:
        imported = manage(folder, "manage.py", "shell", "-c", f"import {module[:-3].replace('/', '.')}")
        assert imported.returncode == 0, imported.stderr
    written = [block.text for block in blocks(guide) if block.path == "board/tests.py"]
    if written:
        count = len(re.findall(r"def test_", "".join(written)))
        tested = manage(folder, "manage.py", "test")
        assert f"Ran {count} tests" in tested.stderr
        assert tested.returncode == 0, tested.stderr


@pytest.mark.servers
def test_a_room_without_websockets(tutorial: Path, tmp_path: Path, visit: Visit) -> None:
    """What somebody says in the how-to's room is heard there, and nobody hears who is not signed in."""
    folder = shutil.copytree(tutorial, tmp_path / "site")
    follow(DOCS / "how-to" / "from-channels-websockets.md", folder)
    with runserver(folder) as server:
        ada = visit(server, ada=True)
        (address,) = re.findall(r'<sse-stream src="([^"]+)"', ada.get("/rooms/5/").text)
        with ada.stream(unescape(address)) as messages:
            assert json.loads(next(messages).text)["topics"] == ["user.1", "room.5"]
            form = {"csrfmiddlewaretoken": ada.cookies["csrftoken"], "text": "Hello"}
            assert ada.post("/rooms/5/say/", data=form).status_code == httpx.codes.NO_CONTENT
            said = next(messages)
        stranger = visit(server).get("/events/?topic=room.5")

    assert (said.name, json.loads(said.text)) == ("said", {"who": "ada", "text": "Hello"})
    assert stranger.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.servers
def test_the_addresses_of_who_comes_from_django_eventstream(
    tutorial: Path, tmp_path: Path, visit: Visit
) -> None:
    """The views follow their topics, the rules say yes and no, and an old id is told by one reset."""
    folder = shutil.copytree(tutorial, tmp_path / "site")
    follow(DOCS / "how-to" / "from-django-eventstream.md", folder)
    with runserver(folder) as server:
        followed = {}
        for path in ("/news/events/", "/objects/5/events/", "/events/?topic=news&topic=room-5"):
            with visit(server).stream(path) as messages:
                followed[path] = json.loads(next(messages).text)["topics"]
        with visit(server).stream("/news/events/", last_event_id="news:17") as messages:
            names = [next(messages).name, next(messages).name]

    assert list(followed.values()) == [["news"], ["object-5"], ["news"]]
    assert names == ["sse-open", "sse-reset"]


@pytest.mark.servers
def test_redis_takes_one_setting(
    tutorial: Path, tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the how-to adds the checks are content, and an open page hears what a shell sends."""
    with RedisServer(directory=tmp_path / "redis") as redis:
        monkeypatch.setenv("REDIS_URL", redis.url)
        folder = shutil.copytree(tutorial, tmp_path / "site")
        follow(REDIS, folder)
        programs = [words for block in blocks(REDIS) if block.language == "sh" for words in commands(block)]
        (check,) = [words for words in programs if "check" in words]
        (send,) = [words for words in programs if "sse_send" in words]

        assert "django_sse." not in manage(folder, *check[1:]).stderr
        with runserver(folder) as server, visit(server).stream("/events/?topic=board") as messages:
            assert next(messages).name == "sse-open"
            sent = manage(folder, *send[1:])
            assert sent.returncode == 0, sent.stderr
            assert next(messages).text == '{"text":"From a shell"}'


# -- the other references ---------------------------------------------------------------------------


def test_every_setting_is_in_the_reference() -> None:
    """The keys and their defaults are those of the code, none missing and none made up."""
    shown = dict(re.findall(r"^### ([A-Z_]+)\n\nDefault: `(.+)`$", SETTINGS.read_text(), re.MULTILINE))
    expected = {field.name: field.default for field in fields(Settings)}
    given = {key: ast.literal_eval(default) for key, default in shown.items()}
    given["JSON_ENCODER"] = import_string(given["JSON_ENCODER"])

    assert given == expected


@pytest.mark.parametrize(("history", "called"), [(MemoryHistory, "memory"), (RedisHistory, "Redis")])
def test_every_option_of_a_history_is_in_the_reference(history: type[BaseHistory], called: str) -> None:
    """The options and their defaults are those of the class."""
    section = SETTINGS.read_text().partition(f"## Options of the {called} history")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^`(\w+)`, default `(.+)`$", section, re.MULTILINE))
    expected = {name: each.default for name, each in inspect.signature(history).parameters.items()}
    servers = {name for name in ("url", "hosts") if name in expected}

    assert all(f"`{name}`" in section and expected.pop(name) is None for name in servers)
    assert {name: ast.literal_eval(default) for name, default in shown.items()} == expected


def test_every_command_is_in_the_reference() -> None:
    """The commands and their arguments are those of the code, none missing and none made up."""
    folder = ROOT / "django_sse" / "management" / "commands"
    names = [path.stem for path in sorted(folder.glob("sse_*.py"))]
    _, *sections = re.split(r"^## ", COMMANDS.read_text(), flags=re.MULTILINE)
    djangos = {action.dest for action in BaseCommand().create_parser("manage.py", "any")._actions}

    assert [section.partition("\n")[0] for section in sections] == names
    for name, section in zip(names, sections, strict=True):
        parser = load_command_class("django_sse", name).create_parser("manage.py", name)
        own = [action for action in parser._actions if action.dest not in djangos]
        expected = [action.option_strings[0] if action.option_strings else action.dest for action in own]
        assert sorted(re.findall(r"^`([^`]+)`$", section, re.MULTILINE)) == sorted(expected)


def test_the_list_of_rules_is_as_shown(tutorial: Path) -> None:
    """The command's output in the reference is that of the tutorial's project."""
    (shown,) = [block.text for block in blocks(COMMANDS) if block.text.startswith("user.<pk>")]

    assert manage(tutorial, "manage.py", "sse_topics").stdout == shown


def test_every_tag_is_in_the_reference() -> None:
    """Each tag is described, and no document speaks of one that there is not."""
    spoken = {tag for path in DOCUMENTS for tag in re.findall(r"\{% (sse\w*)", path.read_text())}
    in_reference = set(re.findall(r"`\{% (\w+)", HTML.read_text()))

    assert spoken == set(sse_tags.register.tags)
    assert spoken <= in_reference


@pytest.mark.parametrize("document", [SETTINGS, REDIS], ids=["settings", "redis"])
def test_the_examples_of_the_settings_are_accepted(document: Path, settings: ProjectSettings) -> None:
    """Each is a configuration that works."""
    examples = [block for block in blocks(document) if block.language == "python"]
    assert examples
    for example in examples:
        names: dict[str, Any] = {}
        exec(example.text, names)
        settings.DJANGO_SSE = {}
        for name in filter(str.isupper, names):
            setattr(settings, name, names[name])
        given = names.get("DJANGO_SSE", settings.DJANGO_SSE)

        assert {key: getattr(get_settings(), key) for key in given} == given
        assert get_history().shared == any(word in example.text for word in ("redis://", "DatabaseHistory"))


def test_every_attribute_is_in_the_reference() -> None:
    """The attributes that the script reads are described, and no others; so are swaps and states."""
    read = set(re.findall(r"data-sse-\w+", SCRIPT + WIDGETS))
    tables = "".join(re.findall(r"const (?:swaps|puts) = \{(.*?)\n  \};", SCRIPT, re.DOTALL))
    swaps = set(re.findall(r"^ {4}([a-z]+): ", tables, re.MULTILINE))
    (worst,) = re.findall(r"const worst = \[(.*?)\]", SCRIPT)
    states = set(re.findall(r'"(\w+)"', worst))

    assert described(HTML, r"`(data-sse-\w+)`$") == read
    assert described(HTML, r"\| `(\w+)(?::NAME)?` \|") == swaps
    assert described(HTML, r"`(\w+)`$") == states


def test_every_attribute_that_takes_data_is_in_the_reference() -> None:
    """The list of harmless attributes is the script's own."""
    (names,) = re.findall(r"\|(alt\|.*?)\)\)\$", SCRIPT, re.DOTALL)
    (listed,) = re.findall(r"^\* (`alt`.*?)\n\*", HTML.read_text(), re.MULTILINE | re.DOTALL)

    assert re.findall(r"`(\w+)`", listed) == re.sub(r'[\s"+]', "", names).split("|")


def test_reserved_events_are_in_the_references() -> None:
    """What streams send by names of their own is described, for the wire and for pages."""
    sources = [path.read_text() for path in (ROOT / "django_sse" / "streams").glob("*.py")]
    sent = {name for source in sources for name in re.findall(r'reserved_event\(\s*"(sse-\w+)"', source)}
    reasons = {
        reason
        for source in sources
        for reason in re.findall(r'(?:reason="|self\.end\("|self\.reason = "|seconds, ")(\w+)"', source)
    }
    text = WIRE.read_text()

    sent.add(fragments.make_fragment(None, None, target="p", swap="remove").name)
    assert sent == {"sse-open", "sse-reset", "sse-close", "sse-fragment"}
    assert described(WIRE, r"`(sse-\w+)`$") == sent
    assert described(HTML, r"`(sse-\w+)`$") == sent | {"sse-state"}
    assert {reason for reason in reasons if f'`"{reason}"`' not in text} == set()


def test_every_swap_of_a_fragment_is_in_the_references() -> None:
    """What can be done with a fragment is described, for senders, for pages and for the wire."""
    (sender,) = re.findall(r"^`swap`\n(: .+\n(?:  .+\n)*)", PYTHON.read_text(), re.MULTILINE)
    (wired,) = re.findall(r"`swap`: (.*?), see", WIRE.read_text(), re.DOTALL)

    assert described(HTML, r'\| `swap="(\w+)"`') == set(fragments.SWAPS)
    assert set(re.findall(r"`(\w+)`", sender)) - {"template"} == set(fragments.SWAPS)
    assert set(re.findall(r'`"(\w+)"`', wired)) == set(fragments.SWAPS)


def test_the_template_of_the_jinja_page(rf: RequestFactory) -> None:
    """With the settings that are shown, the template that is shown is a page with all that the tags print."""
    (shown,) = [block.text for block in blocks(JINJA) if block.language == "python"]
    (template,) = [block.text for block in blocks(JINJA) if block.language == "html+jinja"]
    names: dict[str, Any] = {}
    exec(shown, names)
    engine = EngineHandler(names["TEMPLATES"])["jinja2"]
    html = engine.from_string(template).render({}, rf.get("/"))

    for part in (
        "/sse.min.js",
        "/widgets.js",
        "/sse.css",
        "<sse-stream",
        "data-sse-status",
        'data-sse-max="3"',
    ):
        assert html.count(part) == 1, part


@pytest.mark.parametrize("sender", SENDERS)
def test_policies_are_as_they_are_shown(sender: str) -> None:
    """The settings make the header under which tests/browser/test_tags.py opens pages."""
    assert set(policy_of(sender, "n-1").split("; ")) == {
        "default-src 'none'",
        "script-src 'nonce-n-1'",
        "style-src 'nonce-n-1'",
        "connect-src 'self'",
        "worker-src 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types django-sse",
    }


def test_every_module_has_its_floor() -> None:
    """The house that the architecture shows has the modules of the contract, each once."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    modules = [module for layer in contract["layers"] for module in layer.split(" | ")]
    house = ARCHITECTURE.read_text().partition("## The house")[2]

    assert sorted(re.findall(r"`(\w+)`", house)) == sorted(modules)


def test_the_headers_are_those_of_a_stream() -> None:
    """The reference shows the headers that a stream has."""
    shown = [block.text for block in blocks(WIRE) if block.text.startswith("Content-Type")]

    assert shown == ["".join(f"{name}: {value}\n" for name, value in HEADERS.items())]


def test_cursors_are_real() -> None:
    """Every cursor that a document shows parses, and names the topic that it is said to be of."""
    shown = [
        (document.name, cursor)
        for document in DOCUMENTS
        for cursor in re.findall(r"1~[\w.~-]+", document.read_text())
    ]

    assert shown
    assert [where for where, cursor in shown if Cursor.parse(cursor).get("board") is None] == []


def test_every_python_example_is_run() -> None:
    """Python stands only in documents whose examples the tests above run."""
    with_python = {
        document for document in DOCUMENTS if any(block.language == "python" for block in blocks(document))
    }

    assert with_python == {README, TUTORIAL, SETTINGS, PYTHON, JINJA, policies.PAGE, *GUIDES, REDIS, SERVERS}
