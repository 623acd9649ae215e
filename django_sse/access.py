"""Who may follow what.

Topics that a request asks for are refused unless a rule of the project allows them. Rules stand in an
app's ``sse.py``, which is imported at start-up like ``admin.py``.
"""

import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, PermissionDenied
from django.http import Http404, HttpRequest
from django.urls.converters import get_converters
from django.utils.timezone import now

from django_sse.exceptions import TopicError
from django_sse.requests import began
from django_sse.topics import check_topic, user_topic
from django_sse.visitors import Visitor

logger = logging.getLogger(__name__)

RuleFunction = Callable[..., bool | Awaitable[bool | None] | None]
_Decorated = TypeVar("_Decorated", bound=RuleFunction)

_CAPTURE = re.compile(r"<(?:(?P<converter>[^>:]+):)?(?P<name>[^>]+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A pattern of topics, and the function that is asked about them."""

    pattern: str
    #: One expression and its converters for each part between dots.
    parts: tuple[tuple[re.Pattern[str], dict[str, Any]], ...]
    function: RuleFunction

    def match(self, topic: str) -> dict[str, Any] | None:
        """Return what the pattern captures from a topic, None where it does not match."""
        given = topic.split(".")
        if len(given) != len(self.parts):
            return None
        captured: dict[str, Any] = {}
        for text, (expression, converters) in zip(given, self.parts, strict=True):
            match = expression.fullmatch(text)
            if match is None:
                return None
            for name, converter in converters.items():
                try:
                    captured[name] = converter.to_python(match[name])
                except ValueError:
                    return None  # as in Django's URLs: the converter refuses
        return captured


_rules: list[Rule] = []


def rules() -> tuple[Rule, ...]:
    """Return the project's rules, in the order in which they were registered."""
    return tuple(_rules)


def allow(pattern: str, *, public: bool = False) -> Callable[[_Decorated], _Decorated]:
    """Register a rule for the topics of a pattern, such as ``"room.<int:pk>"``.

    The function is called with the request and the captures, may be a coroutine function, and returns
    whether the request may follow the topic. Captures use Django's path converters and stop at dots.
    ``Http404``, ``PermissionDenied`` and any model's ``DoesNotExist`` mean no. Where several rules match, one
    yes is enough. With ``public=True`` it is no decorator: everybody may follow these topics.

    Raises ImproperlyConfigured for a pattern that is malformed, or for a function where it is public.
    """
    names = [match["name"] for match in _CAPTURE.finditer(pattern)]
    if len(set(names)) < len(names):
        msg = f"topic rule {pattern!r} captures a name twice: give each capture a name of its own"
        raise ImproperlyConfigured(msg)
    parts = tuple(_compile(pattern, part) for part in pattern.split("."))

    if public:
        _rules.append(Rule(pattern=pattern, parts=parts, function=everybody))

    def register(function: _Decorated) -> _Decorated:
        if public:
            msg = f"topic rule {pattern!r} is public: leave out public=True, or the function that decides"
            raise ImproperlyConfigured(msg)
        _rules.append(Rule(pattern=pattern, parts=parts, function=function))
        return function

    return register


def everybody(request: HttpRequest, **captured: object) -> bool:  # noqa: ARG001
    """Allow: the rule of public topics."""
    return True


def _compile(pattern: str, part: str) -> tuple[re.Pattern[str], dict[str, Any]]:
    expression, converters, end = "", {}, 0
    for match in _CAPTURE.finditer(part):
        known = get_converters()
        name, kind = match["name"], match["converter"] or "str"
        if kind not in known or not name.isidentifier():
            msg = f"topic rule {pattern!r}: {match[0]!r} is no capture; the converters are {', '.join(known)}"
            raise ImproperlyConfigured(msg)
        expression += re.escape(part[end : match.start()]) + f"(?P<{name}>{known[kind].regex})"
        converters[name] = known[kind]
        end = match.end()
    rest = part[end:]
    if not part or "<" in rest or ">" in rest:
        msg = f"topic rule {pattern!r} is malformed at {part!r}: write it like 'room.<int:pk>'"
        raise ImproperlyConfigured(msg)
    return re.compile(expression + re.escape(rest)), converters


async def may_follow(request: HttpRequest, topic: str) -> bool:
    """Tell whether a request may follow a topic: its user's own, or one that a rule allows."""
    try:
        check_topic(topic)
    except TopicError:
        return False
    if topic == await own_topic(request):
        return True
    for rule in _rules:
        captured = rule.match(topic)
        if captured is not None and await _ask(rule, request, captured):
            return True
    return False


async def sort_topics(request: HttpRequest, topics: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the topics that a request may follow, and those that it may not."""
    allowed: list[str] = []
    refused: list[str] = []
    for topic in dict.fromkeys(topics):
        (allowed if await may_follow(request, topic) else refused).append(topic)
    return allowed, refused


async def own_topic(request: HttpRequest) -> str | None:
    """Return the topic of the signed-in user, None for anonymous visitors."""
    auser = getattr(request, "auser", None)
    if auser is None:
        return None  # the project has no authentication
    user = await auser()
    return user_topic(user) if user.is_authenticated else None


async def visitor_of(request: HttpRequest) -> Visitor | None:
    """Return who asks, None for anonymous visitors."""
    own = await own_topic(request)
    if own is None:
        return None
    session = getattr(request, "session", None)
    if session is None:
        return Visitor(user=own, began=began(request))
    return Visitor(
        user=own,
        began=began(request),
        session_key=session.session_key,
        session_store=type(session),
        auth_hash=await session.aget(HASH_SESSION_KEY, ""),
        backend=await session.aget(BACKEND_SESSION_KEY, ""),
    )


async def session_seconds(request: HttpRequest) -> float | None:
    """Return how long the session of a signed-in request still lasts, None where its store does not say.

    Reads the row of database-backed sessions: ``get_expiry_age()`` answers as if the session were saved
    now.
    """
    session = getattr(request, "session", None)
    model = getattr(session, "model", None)
    if session is None or model is None or session.session_key is None:
        return None
    rows = model.objects.filter(session_key=session.session_key).values_list("expire_date", flat=True)
    expires = await rows.afirst()
    return None if expires is None else max((expires - now()).total_seconds(), 0.0)


async def _ask(rule: Rule, request: HttpRequest, captured: dict[str, Any]) -> bool:
    try:
        if iscoroutinefunction(rule.function):
            answer = await rule.function(request, **captured)
        else:
            answer = await sync_to_async(rule.function)(request, **captured)
            if inspect.isawaitable(answer):  # a plain function around a coroutine: never take that for a yes
                answer = await answer
    except (Http404, PermissionDenied, ObjectDoesNotExist):
        return False
    except Exception:
        # A rule that fails says no: it must not open the topic, nor end the other topics' stream.
        logger.exception("Topic rule %r failed; the topic is refused", rule.pattern)
        return False
    if answer is not None and not isinstance(answer, bool):
        logger.error("Topic rule %r returned %s, not a bool; refused", rule.pattern, type(answer).__name__)
        return False
    return bool(answer)
