"""Draw charts as inline SVG, coloured by the page's style sheet so that they follow light and dark mode."""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup, escape

from aopsam.report.histogram import Histogram

WIDTH, HEIGHT = 340, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 16, 24
MAX_BARS = 40


def histogram_svg(histogram: Histogram, name: str, *, log: bool = False, mark: float | None = None) -> Markup:
    """Draw a histogram as an `<svg>` of `WIDTH` x `HEIGHT` units that scales with its box.

    Args:
        histogram: the counts; at most `MAX_BARS` bars are drawn.
        name: what is counted, for readers that do not see the picture.
        log: draw the values' axis logarithmically (edges must be positive).
        mark: a value to mark as the median.
    """
    shown = histogram.trimmed(MAX_BARS)
    scale: Callable[[float], float] = math.log10 if log else float
    low, high = scale(shown.edges[0]), scale(shown.edges[-1])
    highest = int(shown.counts.max())

    def x_of(value: float) -> float:
        return _LEFT + (scale(value) - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y_of(count: float) -> float:
        return HEIGHT - _BOTTOM - count / max(highest, 1) * (HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}, a histogram">']
    for count in nice_ticks(0, highest, 3):
        y = y_of(count)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{short(count)}</text>')
    for start, end, count in zip(shown.edges[:-1], shown.edges[1:], shown.counts.tolist(), strict=True):
        if count:
            x, width = x_of(start), x_of(end) - x_of(start)
            gap = min(1.0, width * 0.2)
            # A bar of one count among thousands stays visible.
            y = min(y_of(count), HEIGHT - _BOTTOM - 1)
            parts.append(
                f'<rect class="bar" x="{x + gap / 2:.1f}" y="{y:.1f}" width="{width - gap:.1f}" '
                f'height="{HEIGHT - _BOTTOM - y:.1f}"><title>{short(start)} to {short(end)}: {count:,}</title></rect>'
            )
    ticks = _decades(shown.edges[0], shown.edges[-1]) if log else nice_ticks(shown.edges[0], shown.edges[-1], 5)
    for value in ticks:
        x = x_of(value)
        anchor = "start" if x < _LEFT + 8 else "end" if x > WIDTH - _RIGHT - 8 else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{short(value)}</text>')
    if mark is not None:
        x = min(max(x_of(mark), _LEFT), WIDTH - _RIGHT)
        anchor, shift = ("end", -4) if x > WIDTH / 2 else ("start", 4)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 10}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(
            f'<text class="mark-label" x="{x + shift:.1f}" y="{_TOP - 4}" text-anchor="{anchor}">'
            f"median {short(mark)}</text>"
        )
    return Markup("".join(parts) + "</svg>")  # numbers and escaped text alone


def short(value: float) -> str:
    """Format a number as an axis shows it: 0.95, 12, 3.4k, 2M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Return about so many round values between low and high."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / about))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda step: abs(span / step - about))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)]
