"""Tabs of Firefox, whose methods are named as Playwright's: a case can be shown in either browser."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.browser.firefox.connection import CommandError, Connection

#: Seconds that a tab waits for what must come.
PATIENCE = 10.0
BAD = {"error", "warn"}


class ScriptError(AssertionError):
    """What a test asked of a page threw there."""


@dataclass(frozen=True, slots=True)
class Page:
    """One tab."""

    connection: Connection
    context: str

    def goto(self, url: str) -> None:
        """Open an address, and wait until it has loaded."""
        self.connection.command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def go_back(self) -> None:
        """Go to the page before this one, and wait until it is there."""
        left = self.evaluate("performance.timeOrigin")
        self.connection.command("browsingContext.traverseHistory", context=self.context, delta=-1)
        # The answer may come while the page that is left is still there.
        self.wait_for_function("(left) => performance.timeOrigin !== left", left)

    def bring_to_front(self) -> None:
        """Show this tab; the one that was shown is hidden."""
        self.connection.command("browsingContext.activate", context=self.context)

    def close(self) -> None:
        """Close the tab."""
        self.connection.command("browsingContext.close", context=self.context)

    def evaluate(self, expression: str, argument: object = None) -> Any:
        """Return the value of an expression, or of the function that it is; promises are waited for."""
        # The result comes as JSON: the protocol's own way of writing values knows more than tests need.
        declaration = f"""async (argument) => {{
            const it = ({expression});
            const result = await (typeof it === "function" ? it(JSON.parse(argument)) : it);
            return JSON.stringify(result) ?? "null";
        }}"""
        answer = self.connection.command(
            "script.callFunction",
            functionDeclaration=declaration,
            arguments=[{"type": "string", "value": json.dumps(argument)}],
            target={"context": self.context},
            awaitPromise=True,
        )
        if answer["type"] == "exception":
            raise ScriptError(f"{expression}: {answer['exceptionDetails']['text']}")
        return json.loads(answer["result"]["value"])

    def wait_for_function(self, expression: str, argument: object = None, *, within: float = PATIENCE) -> Any:
        """Ask the page until the answer is true, and return it; raise TimeoutError after `within` seconds."""
        deadline = time.monotonic() + within
        while not (answer := self._ask(expression, argument)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {within} s: {expression} ({argument!r})")
            time.sleep(0.01)
        return answer

    def _ask(self, expression: str, argument: object) -> Any:
        # Between two pages nobody may be there to answer.
        try:
            return self.evaluate(expression, argument)
        except CommandError:
            return None


@dataclass(slots=True, eq=False)
class Profile:
    """A fresh profile: tabs that share cookies and workers with each other, and with no other profile."""

    connection: Connection
    complaints: list[str] = field(default_factory=list)
    _user: str = ""
    _contexts: set[str] = field(default_factory=set)
    _undo: Callable[[], None] = field(default=lambda: None)

    def open(self) -> None:
        """Make it, and note what its pages complain of from now on."""
        self._user = self.connection.command("browser.createUserContext")["userContext"]
        self._undo = self.connection.on("log.entryAdded", self._note)

    def close(self) -> None:
        """Close it with its tabs, and forget all it kept."""
        self._undo()
        self.connection.command("browser.removeUserContext", userContext=self._user)

    def new_page(self) -> Page:
        """Open a tab, in front of the others."""
        answer = self.connection.command("browsingContext.create", type="tab", userContext=self._user)
        self._contexts.add(answer["context"])
        return Page(self.connection, answer["context"])

    def add_init_script(self, script: str) -> None:
        """Run these statements in each page that opens from now on, before its own."""
        self.connection.command(
            "script.addPreloadScript",
            functionDeclaration=f"() => {{ {script} }}",
            userContexts=[self._user],
        )

    def _note(self, entry: dict[str, Any]) -> None:
        if entry["level"] in BAD and entry["source"].get("context") in self._contexts:
            self.complaints.append(entry["text"])
