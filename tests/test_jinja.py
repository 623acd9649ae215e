"""The functions for Jinja templates print what the tags print."""

from typing import Any

import pytest
from django.http import HttpRequest
from django.template.backends.jinja2 import Jinja2
from jinja2 import DictLoader, Environment

from django_sse.exceptions import TopicError
from tests.test_markup import Elements
from tests.test_templatetags import Nonce, elements, render, request_of

pytestmark = pytest.mark.urls("tests.test_markup")

EXTENSION = "django_sse.jinja.SSE"


def render_jinja(source: str, request: HttpRequest | None, others: Any = None, **context: Any) -> str:
    """Render a template as a view does that uses Django's Jinja2 backend."""
    options = {"extensions": [EXTENSION], "loader": DictLoader(others or {})}
    engine = Jinja2({"NAME": "jinja2", "DIRS": [], "APP_DIRS": False, "OPTIONS": options})
    return str(engine.from_string(source).render(context, request))


@pytest.mark.parametrize(
    ("function", "tag"),
    [
        ("sse()", "sse"),
        ("sse('orders', room)", "sse 'orders' room"),
        ("sse_script()", "sse_script"),
        ("sse_status()", "sse_status"),
        ("sse_toasts()", "sse_toasts"),
        ("sse_toasts('notice', max=2)", "sse_toasts 'notice' max=2"),
    ],
)
def test_functions_are_the_tags(function: str, tag: str) -> None:
    """Each function prints what its tag prints, unescaped, with the nonce."""
    given: dict[str, Any] = {"room": "room.5", "csp_nonce": "n-1"}
    printed = render_jinja("{{ %s }}" % function, request_of(5), **given)  # noqa: UP031  (braces)
    expected = render("{% " + tag + " %}", request_of(5), **given)
    assert elements(printed) != []
    assert Elements(printed).found == Elements(expected).found


def test_once_in_a_page() -> None:
    """Base, child and included templates are one page: it has the script and the style once."""
    others = {
        "base": "{{ sse() }}{{ sse_status() }}{% block body %}{% endblock %}{% include 'part' %}",
        "part": "{{ sse('a') }}{{ sse_toasts() }}",
    }
    source = (
        "{% extends 'base' %}{% block body %}{{ sse('b') }}{% set x = 1 %}{% include 'part' %}{% endblock %}"
    )
    found = elements(render_jinja(source, request_of(5), others))
    assert (found.count("script"), found.count("link"), found.count("sse-stream")) == (2, 1, 4)


def test_in_every_page() -> None:
    """Two pages of one request, such as one that fails and its error page, have a script each."""
    request = request_of(5)
    for _ in range(3):
        assert elements(render_jinja("{{ sse() }}{{ sse() }}", request)) == ["script", *["sse-stream"] * 2]


def test_nonce_of_the_request() -> None:
    """The nonce that django-csp gives the request is printed, and read only where something carries it."""
    request = request_of(5)
    request.csp_nonce = nonce = Nonce()  # type: ignore[attr-defined]
    assert render_jinja("{{ sse_toasts.__name__ }}", request) == "sse_toasts"
    assert not nonce
    (_, script), _ = Elements(render_jinja("{{ sse() }}", request)).found
    assert script["nonce"] == "n-1"


def test_a_variable_that_is_missing() -> None:
    """A topic that the context does not have is an error, not a page that follows nothing."""
    with pytest.raises(TopicError):
        render_jinja("{{ sse(room) }}", request_of(5))


def test_without_a_request() -> None:
    """Without one nothing is connected, and a comment says what to do; the rest works."""
    html = render_jinja("{{ sse('orders') }}", None)
    assert html.startswith("<!--")
    assert "request" in html
    assert elements(render_jinja("{{ sse_script() }}", None)) == ["script"]


def test_an_environment_of_ones_own() -> None:
    """It is an extension like any other, also away from Django's backend."""
    environment = Environment(autoescape=True, extensions=[EXTENSION])
    html = environment.from_string("{{ sse() }}{{ sse() }}").render(request=request_of(5))
    assert elements(html) == ["script", *["sse-stream"] * 2]
