"""A page under whatever Content Security Policy the address asks for; nothing in it is inline."""

from django.http import HttpRequest, HttpResponse
from django.template import engines

#: What `{nonce}` in the policy stands for.
NONCE = "bm9uY2U"
PAGE = """{% load sse %}<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>A page with a policy</title></head>
<body>
  <main>
    <h1>News</h1>
    <p data-sse-on="news"></p>
    <div id="messages"></div>
  </main>
  {% sse_status %}
  {% sse_toasts %}
  {% sse topic %}
</body>
</html>"""


def page(request: HttpRequest, topic: str) -> HttpResponse:
    """Show the page under a policy."""
    context = {"topic": topic}
    if "{nonce}" in request.GET["policy"]:
        context["csp_nonce"] = NONCE
    response = HttpResponse(engines["django"].from_string(PAGE).render(context, request))
    response["Content-Security-Policy"] = request.GET["policy"].replace("{nonce}", NONCE)
    return response
