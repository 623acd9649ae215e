"""The tags of ``{% load sse %}``."""

from typing import Any

import django
import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine, Template, engines
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from django_sse.exceptions import TopicError
from django_sse.sharing import share_key
from tests.test_markup import Elements

pytestmark = pytest.mark.urls("tests.test_markup")


class Nonce(SimpleLazyObject):  # type: ignore[type-arg]
    """A nonce that is made when it is read, and false until then, as those of Django 6 and django-csp are."""

    def __init__(self) -> None:
        self.__dict__["made"] = []
        super().__init__(self._make)

    def _make(self) -> str:
        self.__dict__["made"].append("read")
        return "n-1"

    def __bool__(self) -> bool:
        """Tell whether it was made."""
        return bool(self.__dict__["made"])


def request_of(pk: int | None = None) -> HttpRequest:
    """Return the request of a user, or of nobody."""
    request = RequestFactory().get("/")
    request.user = AnonymousUser() if pk is None else User(pk=pk)
    return request


def render(source: str, request: HttpRequest, **context: Any) -> str:
    """Render a template as a view does."""
    return engines["django"].from_string("{% load sse %}" + source).render(context, request)


def elements(html: str) -> list[str]:
    """Return the names of the elements."""
    return [name for name, _ in Elements(html).found]


def test_script_and_stream() -> None:
    """The tag prints the script, and behind it the stream."""
    (first, script), (second, stream) = Elements(render('{% sse "orders" "room.5" %}', request_of())).found
    assert (first, second) == ("script", "sse-stream")
    assert script["src"] == "/static/django_sse/sse.min.js"
    assert "nonce" not in script
    assert stream["src"] == f"/live/events/?topic=orders&topic=room.5&share={share_key(None)}"
    assert (stream["last-id"] or "").count("~") == 2


def test_topics_from_variables() -> None:
    """Topics may come from the context; one that is missing there is an error, not a silent page."""
    source = "{% sse room %}"
    [_, (_, stream)] = Elements(render(source, request_of(), room="room.5")).found
    assert stream["src"] == f"/live/events/?topic=room.5&share={share_key(None)}"
    with pytest.raises(TopicError):
        render(source, request_of())


def test_user() -> None:
    """Without arguments it connects a signed-in user, and prints nothing for anybody else."""
    assert elements(render("{% sse %}", request_of(5))) == ["script", "sse-stream"]
    assert render("{% sse %}", request_of()) == ""


def test_script_alone() -> None:
    """A page with streams of its own has the script by a tag of its own, also for nobody, and once."""
    html = render("{% sse_script %}{% sse_script %}{% sse %}", request_of(5))
    assert elements(html) == ["script", "sse-stream"]
    assert elements(render("{% sse_script %}", request_of())) == ["script"]


def test_status_and_toasts() -> None:
    """Each is printed where its tag stands, and the style that both need once, before the first."""
    html = render("{% sse_status %}{% sse_toasts %}", request_of())
    kept = [(name, found.get("class")) for name, found in Elements(html).found if name in {"link", "div"}]
    assert kept == [("link", None), ("div", "sse-status"), ("div", "sse-toasts"), ("div", "sse-toast")]


def test_toasts_of_other_events() -> None:
    """The tag takes the events' names, from the context too, and how many are shown."""
    html = render("{% sse_toasts name max=2 %}", request_of(), name="notice")
    [template] = [found for name, found in Elements(html).found if name == "template"]
    assert (template["data-sse-on"], template["data-sse-max"]) == ("notice", "2")


def test_script_from_elsewhere(settings: Any) -> None:
    """With static files on another origin the tag names the worker's script on the page's own."""
    settings.STATIC_URL = "https://cdn.example/static/"
    (_, script), _ = Elements(render("{% sse %}", request_of(5))).found
    assert (script["data-worker"] or "").startswith("/live/events/worker.js")
    settings.STATIC_URL = "http://testserver/static/"
    (_, script), _ = Elements(render("{% sse %}", request_of(5))).found
    assert "data-worker" not in script


def test_script_once() -> None:
    """However often the tag stands in a page, and in what it includes, the script is there once."""
    included = Engine.get_default().from_string('{% load sse %}{% sse "b" %}')
    html = render(
        '{% sse %}{% sse "a" %}{% include part %}{% include part only %}{% sse "c" %}',
        request_of(5),
        part=included,
    )
    assert elements(html) == ["script", *["sse-stream"] * 5]


def test_script_in_every_page() -> None:
    """Two pages of one request, such as one that fails and its error page, have a script each."""
    request = request_of(5)
    for _ in range(2):
        assert elements(render("{% sse %}", request)) == ["script", "sse-stream"]


@pytest.mark.parametrize("place", ["context", "request"])
def test_nonce(place: str) -> None:
    """The script carries the nonce that the context or else the request has, though it was not made yet."""
    request, context, nonce = request_of(5), {}, Nonce()
    if place == "context":
        request.csp_nonce = "another"  # type: ignore[attr-defined]
        context["csp_nonce"] = nonce
    else:
        request.csp_nonce = nonce  # type: ignore[attr-defined]
    (_, script), _ = Elements(render("{% sse %}", request, **context)).found
    assert script["nonce"] == "n-1"


def test_nonce_of_every_tag() -> None:
    """All that a policy may forbid carries the same nonce."""
    html = render("{% sse %}{% sse_status %}", request_of(5), csp_nonce="n-1")
    nonces = {name: found["nonce"] for name, found in Elements(html).found if "nonce" in found}
    assert nonces == {"script": "n-1", "link": "n-1"}


def test_nonce_is_read_for_the_script_only() -> None:
    """Where no script is printed the nonce is not read, so the policy stays without it."""
    nonce = Nonce()
    assert render("{% sse %}", request_of(), csp_nonce=nonce) == ""
    assert not nonce


if django.VERSION >= (6, 0):  # with a policy of its own

    @pytest.mark.parametrize(("pk", "allowed"), [(5, True), (None, False)])
    def test_policy_of_django(settings: Any, pk: int | None, allowed: bool) -> None:  # noqa: FBT001
        """Under Django's own policy the header allows the script by its nonce, where there is a script."""
        from django.middleware.csp import ContentSecurityPolicyMiddleware  # noqa: PLC0415  (Django 6)
        from django.template.context_processors import csp  # noqa: PLC0415

        settings.SECURE_CSP = {"script-src": ["<CSP_NONCE_SENTINEL>"]}
        found: list[tuple[str, dict[str, str | None]]] = []

        def view(request: HttpRequest) -> HttpResponse:
            html = render("{% sse %}", request, **csp(request))
            found.extend(Elements(html).found)
            return HttpResponse(html)

        response = ContentSecurityPolicyMiddleware(view)(request_of(pk))
        assert isinstance(response, HttpResponse)
        header = response.headers["Content-Security-Policy"]
        assert ("'nonce-" in header) is allowed
        assert not allowed or header == f"script-src 'nonce-{found[0][1]['nonce']}'"


def test_context_without_request() -> None:
    """Without a request nothing is connected, and a comment in the page says what to do."""
    html = Template("{% load sse %}{% sse 'orders' %}").render(Context())
    assert elements(html) == []
    assert html.startswith("<!--")
    assert "django.template.context_processors.request" in html
