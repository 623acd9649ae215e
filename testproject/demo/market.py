"""The simulated market: one thread that sends a price event several times a second."""

import logging
import math
import random
import threading
from collections import deque
from dataclasses import dataclass

from django_sse import send_event
from django_sse.exceptions import PublishError

logger = logging.getLogger(__name__)

EVENTS_PER_SECOND = 8
POINTS = 32  # of a row's small chart
COMPANIES = {
    "OTTR": ("Otter Ferries", 41.20),
    "WREN": ("Wren & Co. Post", 118.60),
    "FERN": ("Fern Gardens", 23.75),
    "TARN": ("Tarn Water", 64.10),
    "MOTH": ("Moth Lamps", 9.84),
    "HARE": ("Hare Couriers", 87.35),
    "KELP": ("Kelp Kitchens", 15.50),
    "LOOM": ("Loom & Shuttle", 203.00),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A symbol's price as the page shows it."""

    symbol: str
    name: str
    price: str
    change: str  # since the opening, with an arrow: the colour is never the only sign
    trend: str  # "up" or "down" since the opening
    move: str  # "up" or "down" since the last price
    points: tuple[float, ...]  # the latest prices, oldest first

    @property
    def chart_points(self) -> str:
        """Return the chart's line in its own units: one step a price, and upwards is less in SVG."""
        return " ".join(f"{step},{-price:.3f}" for step, price in enumerate(self.points))

    @property
    def chart_box(self) -> str:
        """Return the part of that plane which the line fills."""
        low, high = min(self.points), max(self.points)
        return f"0 {-high:.3f} {len(self.points) - 1} {high - low:.3f}"

    @property
    def event(self) -> str:
        """Return the name of the event that carries this symbol's prices."""
        return f"price-{self.symbol}"

    @property
    def data(self) -> dict[str, str]:
        """Return what the event carries."""
        return {"price": self.price, "change": self.change, "trend": self.trend, "move": self.move}


class Market:
    """Prices on a random walk that is drawn back to where it opened, so that it can run for days."""

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(seed)  # the same walk at every start
        self._lock = threading.Lock()  # guards the walk: the thread writes it, views read it
        self._walks: dict[str, deque[float]] = {
            symbol: deque([opening], maxlen=POINTS) for symbol, (_, opening) in COMPANIES.items()
        }
        self._thread: threading.Thread | None = None
        for _ in range(POINTS * len(COMPANIES) * 2):  # so that the charts have a past
            self.step()

    def quotes(self) -> list[Quote]:
        """Return every symbol's quote, in the order of the table."""
        with self._lock:
            return [self._quote(symbol) for symbol in COMPANIES]

    def step(self) -> Quote:
        """Move one symbol's price."""
        with self._lock:
            symbol = self._random.choice(list(COMPANIES))
            opening = COMPANIES[symbol][1]
            walk = self._walks[symbol]
            away = math.log(walk[-1] / opening) * 0.97 + self._random.gauss(0, 0.005)
            walk.append(opening * math.exp(away))
            return self._quote(symbol)

    def open(self, **_: object) -> None:
        """Start sending prices, once per process; a receiver of signals."""
        with self._lock:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="market", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()  # never set: a wait with a rate
        while not pause.wait(1 / EVENTS_PER_SECOND):
            quote = self.step()
            try:
                # There is no transaction to wait for here, and so no database connection to open.
                send_event("prices", quote.event, quote.data, on_commit=False)
            except PublishError:
                logger.warning(
                    "The price of %s was not sent; the market goes on.", quote.symbol, exc_info=True
                )

    def _quote(self, symbol: str) -> Quote:
        name, opening = COMPANIES[symbol]
        walk = self._walks[symbol]
        since = (walk[-1] / opening - 1) * 100
        return Quote(
            symbol=symbol,
            name=name,
            price=f"{walk[-1]:.2f}",
            change=f"{'▲' if since >= 0 else '▼'} {abs(since):.2f} %",
            trend="up" if since >= 0 else "down",
            move="up" if len(walk) < 2 or walk[-1] >= walk[-2] else "down",
            points=tuple(walk),
        )


market = Market(seed=1906)
