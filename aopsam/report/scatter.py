"""Draw quality against cost as inline SVG: a point a method, with its interval and its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from aopsam.report.charts import nice_ticks, short

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 14, 42
_LETTER, _LINE = 5.7, 12
"""Rough width and height of a letter of a label."""
MOST_NAMED = 16
"""Most points that are all named; of more, those of the front and the marked ones are, the others by a tooltip."""
STYLE = (
    "text{font:10.5px system-ui,sans-serif;fill:#5b6470}.label,.axis{fill:#16191d}.grid{stroke:#e2e5ea}"
    ".front{fill:none;stroke:#94a3b8;stroke-dasharray:4 3}.order{fill:none;stroke:#2f6fde}.span{stroke:#94a3b8}"
    ".point{fill:#fff;stroke:#2f6fde;stroke-width:1.5}.point.best{fill:#2f6fde}"
    ".point.marked{fill:#c2410c;stroke:#c2410c}"
)
"""Style of the classes in a file of its own; a page has its own colours."""


@dataclass(frozen=True)
class Point:
    """Cost and quality of one method.

    Attributes:
        x: its cost, above 0 where the axis is logarithmic.
        y: its quality.
        label: its name.
        low: lower end of the quality's interval, None for none.
        high: upper end.
        marked: whether to highlight it.
    """

    x: float
    y: float
    label: str
    low: float | None = None
    high: float | None = None
    marked: bool = False


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both: none costs at most as much and is better, by rising cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def scatter_svg(
    points: Sequence[Point], x_title: str, y_title: str, *, log: bool = False, in_order: bool = False
) -> Markup:
    """Draw points as an `<svg>` of `WIDTH` x `HEIGHT` units that scales with its box.

    Args:
        points: at least one point.
        x_title: name of `x`, with its unit.
        y_title: name of `y`.
        log: draw the cost logarithmically.
        in_order: join all points by rising `x` and leave their names out, for the values of one option; else the
            Pareto front is joined and filled.
    """
    scale: Callable[[float], float] = math.log10 if log else float
    front = pareto_front(points)
    left, right = _padded([scale(point.x) for point in points])
    ends = [end for point in points for end in (point.y, point.low, point.high) if end is not None]
    bottom, top = _padded(ends)

    def x_of(value: float) -> float:
        return _LEFT + (scale(value) - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_title)} against ']
    parts.append(f'{escape(x_title)}" xmlns="http://www.w3.org/2000/svg">')
    for value in nice_ticks(bottom, top, 6):
        y = y_of(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{short(value)}</text>')
    for value in _log_ticks(10**left, 10**right) if log else nice_ticks(left, right, 7):
        parts.append(
            f'<text class="tick" x="{x_of(value):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{short(value)}</text>'
        )
    parts.append(f'<text class="axis" x="{WIDTH / 2}" y="{HEIGHT - 7}" text-anchor="middle">{escape(x_title)}</text>')
    parts.append(
        f'<text class="axis" x="12" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 12 {HEIGHT / 2})">'
        f"{escape(y_title)}</text>"
    )
    joined = sorted(points, key=lambda point: point.x) if in_order else front
    line = " ".join(f"{x_of(point.x):.1f},{y_of(point.y):.1f}" for point in joined)
    parts.append(f'<polyline class="{"order" if in_order else "front"}" points="{line}"/>')
    for point in points:
        x = x_of(point.x)
        if point.low is not None and point.high is not None:
            ends_y = y_of(point.low), y_of(point.high)
            parts.append(f'<line class="span" x1="{x:.1f}" x2="{x:.1f}" y1="{ends_y[0]:.1f}" y2="{ends_y[1]:.1f}"/>')
    for point in sorted(points, key=lambda point: point.marked):  # those above the others
        kind = "point" + (" best" if point in front else "") + (" marked" if point.marked else "")
        told = f"{point.label}: {point.y:.3g} at {short(point.x)}"
        parts.append(
            f'<circle class="{kind}" cx="{x_of(point.x):.1f}" cy="{y_of(point.y):.1f}" r="{6 if point.marked else 4}">'
            f"<title>{escape(told)}</title></circle>"
        )
    if not in_order:
        named = [point for point in points if len(points) <= MOST_NAMED or point in front or point.marked]
        places = [(x_of(point.x), y_of(point.y)) for point in named]
        for point, (x, y) in zip(named, _labels(places, [point.label for point in named]), strict=True):
            parts.append(f'<text class="label" x="{x:.1f}" y="{y:.1f}">{escape(point.label)}</text>')
    return Markup("".join(parts) + "</svg>")  # numbers and escaped text alone


def standalone(svg: Markup) -> str:
    """Turn an `<svg>` of this module into the text of an SVG file, dark on white."""
    head, _, body = str(svg).partition(">")
    return f'{head}><style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{body}\n'


def _labels(places: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[tuple[float, float]]:
    """Place each label right of its point, left, above or below, where it covers least; return where each begins."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    chosen: list[tuple[float, float]] = []
    for (x, y), label in zip(places, labels, strict=True):
        width = _LETTER * len(label)
        options = [(x + 8, y + 4), (x - 8 - width, y + 4)]
        options += [
            (x - width / 2 + shift * width, y + drop) for drop in (-9, 17, -21, 29) for shift in (0, 0.45, -0.45)
        ]
        best = min(options, key=lambda option: _cost(option, width, taken))
        chosen.append(best)
        taken.append((best[0], best[1] - _LINE + 2, best[0] + width, best[1] + 2))
    return chosen


def _cost(option: tuple[float, float], width: float, taken: Sequence[tuple[float, float, float, float]]) -> float:
    """Compute the area that a label covers of others, plus 100 times how far it reaches out of the picture."""
    x0, y0, x1, y1 = option[0], option[1] - _LINE + 2, option[0] + width, option[1] + 2
    covered = sum(
        max(0.0, min(x1, right) - max(x0, left)) * max(0.0, min(y1, bottom) - max(y0, top))
        for left, top, right, bottom in taken
    )
    outside = max(0.0, _LEFT - x0) + max(0.0, x1 - WIDTH) + max(0.0, -y0) + max(0.0, y1 - HEIGHT + _BOTTOM)
    return covered + 100 * outside


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Return a range that holds the values with room around them."""
    low, high = min(values), max(values)
    room = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between low and high."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for power in powers for factor in (1, 2, 5) if low <= (tick := factor * 10.0**power) <= high]
