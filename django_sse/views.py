"""The views: event streams, whether a process is fit to serve them, and the script of their worker."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Final

from django.core.exceptions import BadRequest
from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.cache import add_never_cache_headers, get_conditional_response
from django.utils.decorators import classonlymethod
from django.views import View

from django_sse.access import own_topic, session_seconds, sort_topics, visitor_of
from django_sse.assets import script_text, script_version
from django_sse.conf import get_settings
from django_sse.dialects import Dialect, dialect_of
from django_sse.exceptions import CursorError, HistoryError, TopicError
from django_sse.history import get_history
from django_sse.hub import Hub
from django_sse.origins import foreign_origin, is_allowed, let_read, preflight
from django_sse.positions import Cursor
from django_sse.requests import is_asgi, last_event_id
from django_sse.responses import HEADERS, WSGI_REFUSAL, EventStreamResponse
from django_sse.sharing import SHARE, is_share_key
from django_sse.signed_urls import TOKEN, Grant, read_token
from django_sse.streams import Stream, WordedStream, reserved_event
from django_sse.threads import release_request
from django_sse.topics import check_topic
from django_sse.visitors import Visitor
from django_sse.wire import Event, encode, encode_retry

#: Checks that may fail, one after the other, before a process is not ready: the longest pause is 1.2 x CHECK.
_CHECKS: Final = 2.4


class _OpenView(View):
    """A view that only reads, and answers by itself where signing in is missing."""

    http_method_names = ["get", "head", "options"]

    @classonlymethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:  # noqa: N805  (a class method)
        """Return the view, which answers by itself where signing in is missing, and opens no transactions."""
        view = super().as_view(**initkwargs)
        # LoginRequiredMiddleware would redirect, which EventSource takes for a failure.
        view.login_required = False  # type: ignore[attr-defined]
        # It only reads: other methods are told 405, not that a token is missing.
        view.csrf_exempt = True  # type: ignore[attr-defined]
        for alias in connections:
            # With ATOMIC_REQUESTS async views raise.
            view = transaction.non_atomic_requests(using=alias)(view)
        return view


class ReadinessView(_OpenView):
    """Tell a load balancer whether this process hears what is sent: 200, or 503 where it may not.

    The answer is the age of the last comparison with the history that worked, in seconds, as JSON:
    ``{"staleness": 1.5}``. Before the first stream nothing is compared; it is null then, and the answer 200.
    501 under WSGI.
    """

    async def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # noqa: ARG002
        """Answer for the event loop that serves this request."""
        if not is_asgi(request):
            return _sentence(501, WSGI_REFUSAL)
        staleness = Hub.current().snapshot().staleness
        is_ready = staleness is None or staleness <= _CHECKS * get_settings().CHECK
        response = JsonResponse({"staleness": staleness}, status=200 if is_ready else 503)
        add_never_cache_headers(response)
        return response


class WorkerView(_OpenView):
    """Serve the script from the site's own origin, where a browser takes the script of a worker from.

    Browsers ask each time whether it has changed: what it may do stands in the answer's headers too, such as
    the site's security policy, and no cache in between may keep a cookie that comes with it.
    """

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # noqa: ARG002
        """Answer with the script."""
        headers = {
            "Cache-Control": "private, no-cache",
            "ETag": f'"{script_version()}"',
            "X-Content-Type-Options": "nosniff",
        }
        content_type = "text/javascript; charset=utf-8"
        response = HttpResponse(script_text(), content_type=content_type, headers=headers)
        return get_conditional_response(request, etag=headers["ETag"], response=response) or response


class EventStreamView(_OpenView):
    """Serve one request's event stream.

    As it is, it follows the signed-in user's own topic and the topics that the request asks for with
    ``?topic=`` and the project's rules allow. With ``as_view(topics=["room.{pk}"])`` it follows those,
    filled from the URL's captures, which may not hold dots: deciding who may call the view is then the
    project's own business. An address of `signed_stream_url` is its user's. Subclasses may override
    `get_topics` and `on_connect`.

    Answers 401 where nothing may be followed and signing in would help, 403 where it would not and where
    ``?share=`` is another visitor's, 400 for too many topics, 501 under WSGI.
    """

    topics: Sequence[str] | None = None
    _asked: Collection[str] = ()
    #: What `get_topics` has refused, named in ``sse-open``.
    refused: Collection[str] = ()
    _dialect: Dialect | None = None

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        """Answer pages of this site, and of those that the project allows."""
        origin = foreign_origin(request)
        if not is_allowed(origin):
            return _sentence(
                403,
                "Pages of another site may not follow these streams. The project allows them with "
                "DJANGO_SSE['ALLOWED_ORIGINS'].\n",
            )
        try:
            self._dialect = dialect_of(request)
        except BadRequest as error:
            response: HttpResponseBase = _sentence(400, f"{error}\n")
        else:
            response = preflight(request) or await super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        let_read(response, origin)
        return response

    async def get_topics(self, request: HttpRequest) -> Collection[str]:
        """Return the topics to follow; asked again at every connect."""
        if self.topics is not None:
            captures = self._captures()
            try:
                return [check_topic(topic.format(**captures)) for topic in self.topics]
            except TopicError as error:
                raise Http404(str(error)) from error
        own = await own_topic(request)
        allowed, self.refused = await sort_topics(request, self._asked)
        return list(dict.fromkeys([own, *allowed] if own is not None else allowed))

    async def on_connect(self, request: HttpRequest, topics: Collection[str]) -> Iterable[Event]:  # noqa: ARG002
        """Return the first state of topics that start fresh or were reset; it is sent before their events."""
        return ()

    async def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # noqa: ARG002
        """Answer with the stream, or say why not."""
        if not is_asgi(request):
            return _sentence(501, WSGI_REFUSAL)
        settings = get_settings()
        get_history()  # a wrong configuration must be this request's error, not a stream that ends at once
        who = await _identify(request, self._dialect)
        if isinstance(who, HttpResponse):
            return who
        grant, visitor = who
        self._asked = request.GET.getlist("topic") if grant is None else grant.topics
        if len(self._asked) > settings.MAX_TOPICS:
            return _too_many(len(self._asked), settings.MAX_TOPICS)
        followed = await self.get_topics(request)
        if isinstance(followed, str):
            msg = f"{type(self).__qualname__}.get_topics() returned {followed!r}: return a list of topics"
            raise TypeError(msg)
        topics = [check_topic(topic) for topic in followed]
        if len(topics) > settings.MAX_TOPICS:
            return _too_many(len(topics), settings.MAX_TOPICS)
        if not topics:
            return _nothing_allowed(signed_in=visitor is not None)
        cursor, malformed = _cursor(request)
        has_state = type(self).on_connect is not EventStreamView.on_connect
        make = Stream if self._dialect is None else partial(WordedStream, dialect=self._dialect)
        stream = make(
            topics,
            settings=settings,
            cursor=cursor,
            malformed=malformed,
            refused=self.refused,
            seconds=grant.seconds if grant else await session_seconds(request) if visitor else None,
            visitor=visitor,
            first_state=self._first_state if has_state else None,
            # The project's code runs as if in its request; ours has no use for one.
            context=copy_context() if has_state else None,
        )
        return EventStreamResponse(stream, request=request)

    async def _first_state(self, topics: Collection[str]) -> Iterable[Event]:
        try:
            return list(await self.on_connect(self.request, topics))
        finally:
            await release_request()

    def _captures(self) -> dict[str, Any]:
        for value in self.kwargs.values():
            if "." in str(value):
                # "room.{slug}" with the slug "5.staff" would name somebody else's topic.
                msg = f"{value!r} holds a dot, which separates the parts of topics"
                raise Http404(msg)
        return dict(self.kwargs)


def _cursor(request: HttpRequest) -> tuple[Cursor | None, bool]:
    text = last_event_id(request)
    if not text:
        return None, False
    try:
        return Cursor.parse(text), False
    except CursorError:
        return None, True


async def _identify(
    request: HttpRequest, dialect: Dialect | None
) -> tuple[Grant | None, Visitor | None] | HttpResponse:
    """Return who asks, and by which signed address; or the answer where the page is not theirs."""
    grant = await _grant_of(request, dialect)
    if isinstance(grant, HttpResponse):
        return grant
    visitor = await visitor_of(request) if grant is None else grant.sign_in(request)
    user = None if visitor is None else visitor.user
    if not all(is_share_key(key, user) for key in set(request.GET.getlist(SHARE))):
        return _sentence(403, "This page was made for another visitor: load it again.\n")
    return grant, visitor


async def _grant_of(request: HttpRequest, dialect: Dialect | None) -> Grant | HttpResponse | None:
    """Return what a signed address gives, None for any other; or the answer where it gives nothing."""
    token = request.GET.get(TOKEN)
    if token is None:
        return None
    try:
        grant = await read_token(token)
    except HistoryError:
        # Nobody can tell now; EventSource would stop for good at any status but 200.
        closing = reserved_event("sse-close", reason="error", reconnect=True)
        if dialect is not None:
            closing = dialect.word(closing)
        return HttpResponse(encode_retry(get_settings().RETRY) + encode(closing), headers=HEADERS)
    return grant or _sentence(401, "This address is not good, or not any more: ask for a new one.\n")


def _nothing_allowed(*, signed_in: bool) -> HttpResponse:
    if signed_in:
        return _sentence(
            403,
            "None of these topics may be followed. The project allows topics with django_sse.access.allow "
            "in an app's sse.py.\n",
        )
    response = _sentence(
        401,
        "Sign in to follow a stream, or ask with ?topic= for topics that the project allows to everybody.\n",
    )
    # A scheme that no browser asks a password for; the standard wants one named (RFC 9110, 15.5.2).
    response.headers["WWW-Authenticate"] = 'Session realm="events"'
    return response


def _too_many(count: int, limit: int) -> HttpResponse:
    return _sentence(400, f"{count} topics are more than the {limit} that one stream may follow.\n")


def _sentence(status: int, text: str) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
