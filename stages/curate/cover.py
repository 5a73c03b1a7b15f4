"""Draw how well the chosen photos cover a corpus: histograms of statistics, and distances to the nearest chosen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aopsam.curation.k_center import squared_distances
from aopsam.report.charts import short
from stages.curate.choice import STATISTICS, embeddings

WIDTH, HEIGHT = 640, 360
"""Size of one chart, px."""
BARS = 20
TITLES = {
    "masks": "Masks a photo",
    "object_scale": "Object scale: median side of a photo's masks (1 = the photo)",
    "layout": "Layout: masks' mean distance from the middle (1 = corner)",
}
INK, FAINT, ALL, CHOSEN, RANDOM = "#1d2733", "#dde3ea", "#9aa7b5", "#2a78d6", "#d6702a"
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 84, 36


@dataclass(frozen=True)
class Series:
    """Values drawn in one colour, as shares of their own number."""

    name: str
    colour: str
    values: NDArray[np.float64]


def cover_distances(descriptions: pa.Table, chosen: NDArray[np.bool_], seed: int) -> tuple[NDArray, NDArray]:
    """Return the embedding distances of all N photos to the nearest chosen and the nearest random one, both (N,).

    As many photos are drawn at random as are chosen.
    """
    vectors = embeddings(descriptions)
    drawn = np.random.default_rng(seed).choice(len(vectors), int(chosen.sum()), replace=False)
    ours, random = (np.sqrt(squared_distances(vectors, vectors[centres])) for centres in (chosen, np.sort(drawn)))
    return ours, random


def cover_png(curation: pa.Table, ours: NDArray, random: NDArray) -> bytes:
    """Draw four charts as a PNG: each of `STATISTICS` of all and of the chosen photos, and the distances.

    Args:
        curation: table of schemas/curation.py, N rows.
        ours: (N,) distances to the chosen photos, of `cover_distances`.
        random: (N,) distances to the random photos, of `cover_distances`.
    """
    chosen = curation.column("chosen").to_numpy()
    canvas = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")
    charts: list[tuple[str, list[Series]]] = []
    for name in STATISTICS:
        values = curation.column(name).to_numpy().astype(np.float64)
        pair = [("all", ALL, values), ("chosen", CHOSEN, values[chosen])]
        charts.append((TITLES[name], [_with_median(*series) for series in pair]))
    farthest = [
        Series(f"{name}: mean {values.mean():.3f}, farthest {values.max():.3f}", colour, values.astype(np.float64))
        for name, colour, values in (("chosen", CHOSEN, ours), ("random", RANDOM, random))
    ]
    charts.append(("Embedding distance of all photos to the nearest one", farthest))
    for place, (title, series) in enumerate(charts):
        canvas.paste(_chart(title, series), (place % 2 * WIDTH, place // 2 * HEIGHT))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _with_median(name: str, colour: str, values: NDArray[np.float64]) -> Series:
    return Series(f"{name}: {len(values):,} photos, median {short(float(np.median(values)))}", colour, values)


def _chart(title: str, series: Sequence[Series]) -> Image.Image:
    """Draw the bars of all series side by side in shared bins; values above the last bin count in it."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    text, small = ImageFont.load_default(17), ImageFont.load_default(13)
    draw.text((_LEFT, 14), title, INK, text)
    x = float(_LEFT)
    for one in series:
        draw.rectangle((x, 50, x + 11, 61), one.colour)
        draw.text((x + 17, 48), one.name, INK, small)
        x += 17 + draw.textlength(one.name, small) + 24
    edges = bin_edges(np.concatenate([one.values for one in series]))
    shares = [np.histogram(one.values.clip(edges[0], edges[-1]), edges)[0] / len(one.values) for one in series]
    top = float(np.max(shares))
    bottom, wide, high = HEIGHT - _BOTTOM, WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    for share in np.linspace(0, top, 4):
        y = bottom - share / top * high
        draw.line((_LEFT, y, WIDTH - _RIGHT, y), FAINT)
        draw.text((_LEFT - 8, y), f"{100 * share:.0f} %", INK, small, anchor="rm")
    slot = wide / (len(edges) - 1)
    bar = (slot - 2) / len(series)
    for number, (one, heights) in enumerate(zip(series, shares, strict=True)):
        for place in np.flatnonzero(heights):
            left = _LEFT + place * slot + 1 + number * bar
            y = min(bottom - heights[place] / top * high, bottom - 1)  # one photo among thousands is still seen
            draw.rectangle((left, y, left + bar - 1, bottom), one.colour)
    end = wide + slot
    if max(float(one.values.max()) for one in series) > edges[-1]:
        last = f"{short(float(edges[-2]))} and more"
        draw.text((WIDTH - _RIGHT, bottom + 8), last, INK, small, anchor="rt")
        end = wide - draw.textlength(last, small) - 24
    for tick in range(0, len(edges), max(1, (len(edges) - 1) // 5)):
        if tick * slot < end:
            draw.text((_LEFT + tick * slot, bottom + 8), short(float(edges[tick])), INK, small, anchor="mt")
    return image


def bin_edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of at most `BARS` bins of a round width, from the least value to the 99th percentile or more."""
    low, high = float(values.min()), float(np.quantile(values, 0.99, method="lower"))
    exact = max(high - low, 1e-6) / (BARS - 1)
    power = 10.0 ** np.floor(np.log10(exact))
    width = power * min(factor for factor in (1, 2, 5, 10) if power * factor >= exact * (1 - 1e-9))
    first = np.floor(low / width)
    return (first + np.arange(int(np.floor(high / width) - first) + 2)) * width
