"""A call of a script on one server.

Scripts are called by name. A server that does not know the name, as after a restart, has done nothing, and
gets the call again in full; nothing else is tried twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from django_sse.exceptions import HistoryError
from django_sse.history.redis.scripts import Script


@dataclass(frozen=True, slots=True)
class Call:
    """One script with its keys and arguments, all on one server."""

    shard: int
    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | bytes | int]
    #: Bytes of an answer, where it may be large.
    expected: int = 0

    @property
    def by_name(self) -> tuple[Any, ...]:
        """The command for a server that knows the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    @property
    def in_full(self) -> tuple[Any, ...]:
        """The command for any server, which knows the script from then on."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)

    @property
    def size(self) -> int:
        """About how many bytes travel."""
        return self.expected + sum(len(value) for value in self.arguments if isinstance(value, bytes))


def execute(client: Any, calls: Sequence[Call]) -> list[Any]:
    """Return the answers of one server, errors that it answers among them."""
    answers = _execute(client, [call.by_name for call in calls])
    if again := _unknown(answers):
        late = _execute(client, [calls[index].in_full for index in again])
        for index, answer in zip(again, late, strict=True):
            answers[index] = answer
    return answers


async def aexecute(client: Any, calls: Sequence[Call]) -> list[Any]:
    """Do what `execute` does."""
    answers = await _aexecute(client, [call.by_name for call in calls])
    if again := _unknown(answers):
        late = await _aexecute(client, [calls[index].in_full for index in again])
        for index, answer in zip(again, late, strict=True):
            answers[index] = answer
    return answers


def sound(answers: list[Any]) -> list[Any]:
    """Return the answers, or raise HistoryError for the first that is an error."""
    for answer in answers:
        if isinstance(answer, redis.RedisError):
            raise HistoryError(complaint(answer)) from answer
    return answers


def complaint(error: Exception) -> str:
    """Return what to tell of an error of redis-py, which names hosts without their credentials."""
    return f"the history in Redis does not answer: {type(error).__name__}: {error}"


def _execute(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    if len(commands) == 1:
        try:
            return [client.execute_command(*commands[0])]
        except redis.ResponseError as error:
            return [error]
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute(raise_on_error=False))


async def _aexecute(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))


def _unknown(answers: Sequence[Any]) -> list[int]:
    return [
        index for index, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)
    ]
