"""The simulated market: prices that are functions of the time, so that every process knows the same ones."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import exp

from testproject.demo.charts import line

RATE = 4  # prices a second, of each symbol
POINTS = 48  # of a chart
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
# How far a price swings, and over how many ticks: from long waves to the last ripple.
WAVES = ((0.05, 2400), (0.02, 400), (0.008, 60), (0.003, 12), (0.0008, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A symbol's price at one tick, as the page shows it."""

    symbol: str
    name: str
    price: str
    change: str  # since the opening, with an arrow: the colour is never the only sign
    trend: str  # "up" or "down" since the opening
    move: str  # "up", "down" or "same" since the last price
    points: str  # of its chart

    @property
    def event(self) -> str:
        """The name of the event that carries this symbol's prices."""
        return f"price-{self.symbol}"

    @property
    def data(self) -> dict[str, str]:
        """What the event carries."""
        names = ("price", "change", "trend", "move", "points")
        return {name: getattr(self, name) for name in names}


def quotes(tick: int) -> Iterator[Quote]:
    """Give every symbol's quote at a tick, in the order of the table."""
    for symbol, (name, opening) in COMPANIES.items():
        prices = [round(price_at(symbol, tick - ago), 2) for ago in range(POINTS - 1, -1, -1)]
        last, now = prices[-2:]
        change = (now / opening - 1) * 100
        yield Quote(
            symbol=symbol,
            name=name,
            price=f"{now:.2f}",
            change=f"{'▲' if change >= 0 else '▼'} {abs(change):.2f} %",
            trend="up" if change >= 0 else "down",
            move="up" if now > last else "down" if now < last else "same",
            points=line(prices),
        )


def index(tick: int) -> tuple[str, str]:
    """Return all prices together, 100 at the opening, and the points of their chart."""
    values = [
        sum(price_at(symbol, tick - ago) / opening for symbol, (_, opening) in COMPANIES.items())
        / len(COMPANIES)
        * 100
        for ago in range(POINTS * 2, -1, -1)
    ]
    return f"{values[-1]:.2f}", line(values)


@lru_cache(maxsize=10_000)
def price_at(symbol: str, tick: int) -> float:
    """Return a price: the opening, bent by waves of noise."""
    bent = 0.0
    for swing, length in WAVES:
        wave, place = divmod(tick, length)
        part = place / length
        part = part * part * (3 - 2 * part)  # eases from one wave into the next
        bent += swing * ((1 - part) * _noise(symbol, length, wave) + part * _noise(symbol, length, wave + 1))
    return COMPANIES[symbol][1] * exp(bent)


@lru_cache(maxsize=50_000)
def _noise(symbol: str, length: int, wave: int) -> float:
    return random.Random(f"{symbol} {length} {wave}").uniform(-1, 1)
