"""Prices: a simulated market, several events a second for each symbol.

A price is sent to the topic "prices", in an event of its symbol's name. The cells of the table name the
events that concern them. Charts need no script either: an event brings the points of its line.
"""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from django_sse import send_event
from testproject.demo.charts import area
from testproject.demo.market import RATE, index, quotes
from testproject.demo.pages import Scene
from testproject.demo.watched import WhileWatched

SCENE = Scene(
    slug="prices",
    title="Prices",
    summary="A table that moves thirty times a second.",
    module=__name__,
    card=lambda: {"index": index_at(market.now())},
    files=("market.py", "watched.py", "charts.py", "sse.py"),
)


def send(tick: int) -> None:
    """Send every symbol's price, and that of all together."""
    for quote in quotes(tick):
        # Of two server processes that send the same price, one is heard.
        once = f"{quote.symbol}-{tick}"
        send_event("prices", quote.event, quote.data, idempotency_key=once, on_commit=False)
    send_event("prices", "index", index_at(tick), idempotency_key=f"index-{tick}", on_commit=False)


def index_at(tick: int) -> dict[str, str]:
    """Return what the large chart shows."""
    value, points = index(tick)
    return {"value": value, "points": points, "area": area(points)}


market: WhileWatched = WhileWatched("prices", send, rate=RATE)


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the prices of this moment."""
    now = market.now()
    return SCENE.render(request, {"quotes": quotes(now), "index": index_at(now)})


urlpatterns = [path("", show, name="prices")]
