"""A client that tries whatever an attacker would: any query, header, cursor, path and method.

It signs in as user 2 and wants what is sent to user 1. `python -m tests.servers.hostile --requests 100000`
does it for as long as one likes, against servers of its own on this machine.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, get_args
from urllib.parse import quote, quote_from_bytes

import httpx

from django_sse.wire import Parser
from tests.servers.process import Kind, ServerProcess

#: Seconds within which everything is answered.
_PATIENCE: Final = 20.0
_AT_ONCE: Final = 20
#: Characters of a query.
_LONGEST: Final = 7000

PATHS: Final = (
    *["/events/"] * 12,
    "/events",
    "//events/",
    "/events/../events/",
    "/events/%2e%2e/events/",
    "/events/;topic=user.1",
    "/events/user.1",
    "/events/%00",
    "/EVENTS/",
    "/events/?",
)
METHODS: Final = (*["GET"] * 12, "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "BREW")
NAMES: Final = (*["topic"] * 6, *["lastEventId"] * 3, "token", "envelope", "dialect", "topic[]", "%74opic")
TOPICS: Final = (
    "user.1",
    "user.1 ",
    " user.1",
    "user.1\0",
    "user.1\n",
    "user.1.",
    "user..1",
    "user.01",
    "user.+1",
    "user.\uff11",
    "user.1\u200b",
    "USER.1",
    "\uff55ser.1",
    "user.*",
    "user.<pk>",
    "*",
    "user.1,user.2",
    "user.2\r\nevent: tick\r\n\r\n",
    "sse-control",
    "soak.x",
    "soak.user.1",
    "soak.",
    "soak.<script>alert(1)</script>",
    "soak.%(x)s{0}{self}",
    "x" * 300,
    "",
)


@dataclass(kw_only=True)
class Attacker:
    """Sends hostile requests; a seed always sends the same ones."""

    base_url: str
    seed: int
    #: Cursors that user 1 was given.
    cursors: list[str] = field(default_factory=list)
    #: How many answers had which status; 0 where there was none.
    statuses: Counter[int] = field(default_factory=Counter)
    #: What must not be.
    findings: list[str] = field(default_factory=list)

    async def attack(self, count: int) -> None:
        """Send so many requests, some of them at once."""
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await self._try(Random(f"{self.seed} {number}"), number)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))

    async def learn(self, http: httpx.AsyncClient) -> None:
        """Take genuine cursors of user 1, as one who looks over the shoulder."""
        async with http.stream("GET", "/events/", params={"as": "1", "topic": "soak.x"}) as response:
            parser = Parser()
            async for data in response.aiter_bytes():
                self.cursors += [message.id for message in parser.feed(data)]
                if len(self.cursors) > 2:
                    break
                await secret(http)

    async def _try(self, random: Random, number: int) -> None:
        request = self._request(random)
        try:
            async with asyncio.timeout(_PATIENCE):
                status, body = await self._ask(request, random)
        except (TimeoutError, OSError) as error:
            self.findings.append(f"{number}: {error!r} for {request!r}")
            return
        self.statuses[status] += 1
        if status >= 500 or status == 0:
            self.findings.append(f"{number}: {status} for {request!r}")
        if b"secret" in body:
            self.findings.append(f"{number}: a leak for {request!r}")

    async def _ask(self, request: bytes, random: Random) -> tuple[int, bytes]:
        host, _, port = self.base_url.rpartition("/")[2].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            body = b""
            # A stream is read until it has begun, or ended; anything else as far as it goes.
            while data := await reader.read(65536):
                body += data
                if b"sse-open" in body and random.random() < 0.7:
                    break
                if b"sse-open" in body and b"\n\n" in body.partition(b"sse-open")[2]:
                    break
            return int(body[9:12] or 0), body
        finally:
            if random.random() < 0.5:
                writer.transport.abort()
            writer.close()

    def _request(self, random: Random) -> bytes:
        pairs = [self._pair(random) for _ in range(random.choice([0, 1, 1, 2, 3, 3, 40]))]
        query = random.choice(["&", "&", "&", ";"]).join(pairs)
        # What is longer no server hands to its application.
        target = f"{random.choice(PATHS)}?{query[:_LONGEST]}&as=2"
        headers = self._headers(random)
        lines = [f"{random.choice(METHODS)} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _pair(self, random: Random) -> str:
        name = random.choice(NAMES)
        if name == "lastEventId":
            return f"{name}={quote(self._cursor(random), safe='')}"
        if name == "token" or random.random() < 0.1:
            return f"{name}={quote_from_bytes(random.randbytes(random.choice([0, 1, 20, 400])))}"
        topic = random.choice(TOPICS)
        encoded = random.choice([quote(topic, safe=""), "".join(f"%{byte:02x}" for byte in topic.encode())])
        return f"{name}={random.choice([encoded, encoded, quote(encoded)])}"

    def _cursor(self, random: Random) -> str:
        cursor = random.choice([*self.cursors, "1~AAAAAAAA.1.0123456789", "end", ""])
        match random.randrange(6):
            case 0:
                return cursor[: random.randint(0, len(cursor))]
            case 1 if cursor:
                at = random.randrange(len(cursor))
                return cursor[:at] + chr(random.randrange(33, 256)) + cursor[at + 1 :]
            case 2:
                return cursor + cursor[1:] * random.choice([1, 100])
            case 3:
                return random.randbytes(30).decode("latin-1")
        return cursor

    def _headers(self, random: Random) -> Mapping[str, str]:
        headers = {"Host": "127.0.0.1", "Connection": "close"}
        for name, values in {
            "Accept": ("text/event-stream", "*/*", "x" * 2000),
            "Last-Event-ID": (_legal(self._cursor(random)), _legal(self._cursor(random))),
            "Origin": ("http://127.0.0.1", "https://evil.example", "null"),
            "Cookie": ("sessionid=1", "sessionid=" + "a" * 3000, "=;=;"),
            "X-Forwarded-For": ("127.0.0.1",),
            "X-Forwarded-Host": ("evil.example",),
            "X-HTTP-Method-Override": ("DELETE",),
            "Range": ("bytes=0-1",),
            "If-None-Match": ("*",),
            "HX-Request": ("true",),
        }.items():
            if random.random() < 0.3:
                headers[name] = random.choice(values)
        if random.random() < 0.05:
            headers["Host"] = random.choice(["evil.example", "127.0.0.1:99999", "[::1", ""])
        return headers


def _legal(text: str) -> str:
    """Leave out what no server would take for a header: that is the server's own business."""
    return "".join(char for char in text if char.isprintable() and ord(char) < 256)


async def secret(http: httpx.AsyncClient) -> None:
    """Send something to user 1."""
    order = {"topic": "user.1", "count": "1", "size": "1", "filler": "secret"}
    (await http.get("/burst", params=order)).raise_for_status()


async def health(http: httpx.AsyncClient) -> dict[str, Any]:
    """Return what a server holds."""
    state: dict[str, Any] = (await http.get("/health")).raise_for_status().json()
    return state


async def _attack(server: ServerProcess, requests: int, seed: int) -> bool:
    attacker = Attacker(base_url=server.base_url, seed=seed)
    async with httpx.AsyncClient(base_url=server.base_url, timeout=_PATIENCE) as http:
        await attacker.learn(http)
        before, began = await health(http), time.monotonic()
        done = 0
        while done < requests and not attacker.findings:
            part = min(1000, requests - done)
            await attacker.attack(part)
            attacker.seed += 1
            done += part
            await secret(http)
            print(f"\r{server.kind}: {done} of {requests}", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(2)
        after = await health(http)
    took = time.monotonic() - began
    print(f"\r{server.kind}: {done} requests in {took:.0f} s; {dict(attacker.statuses)}")
    print(f"  before {before}\n  after  {after}")
    for finding in attacker.findings[:20]:
        print(f"  {finding}")
    return not attacker.findings


def main() -> int:
    """Attack servers of one's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", default="uvicorn", help=", ".join(get_args(Kind)))
    options = parser.parse_args()
    sound = True
    for kind in options.servers.split(","):
        with tempfile.TemporaryDirectory() as folder:
            server = ServerProcess(
                kind=kind,
                log=Path(folder) / "log",
                application="tests.soak.lean:application",
                settings="tests.soak.settings",
                environment={"SOAK_LINGER": "0.1", "SOAK_CHECK": "0.5"},
            )
            with server:
                sound &= asyncio.run(_attack(server, options.requests, options.seed))
                sound &= "Traceback" not in server.log.read_text(errors="replace")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
