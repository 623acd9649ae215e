"""Charts that events draw: the points of an SVG line, for `data-sse-attr="points:..."` of the page."""

from collections.abc import Sequence

WIDTH, HEIGHT = 100, 30  # of the viewBox


def line(values: Sequence[float], *, low: float | None = None, high: float | None = None) -> str:
    """Return the points of a line through the values, the oldest at the left."""
    low = min(values) if low is None else low
    high = max(values) if high is None else high
    span, steps = (high - low) or 1, max(len(values) - 1, 1)
    points = (
        (place * WIDTH / steps, 1 + (HEIGHT - 2) * (1 - (value - low) / span))
        for place, value in enumerate(values)
    )
    return " ".join(f"{x:.4g},{y:.4g}" for x, y in points)


def area(points: str) -> str:
    """Return the points of the area below a line."""
    return f"0,{HEIGHT} {points} {WIDTH},{HEIGHT}"
