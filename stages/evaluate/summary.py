"""Summarise metrics of photos to figures of strategies: means, intervals, differences to the first strategy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from aopsam.metrics import (
    METRICS,
    PRECISIONS,
    AveragePrecision,
    mean_interval,
    paired_difference,
    resampled,
    spread,
    weighted_mean,
)
from stages.evaluate.compare import CHOSEN, unpacked

PRECISION_RESAMPLES = 400
"""Draws of photos for the interval of an average precision; fewer than elsewhere, each sorts all predictions."""

Photos = dict[str, dict[str, float]]
"""Metric → photo → value, NaN where undefined."""
MEANS = {name: metric.per for name, metric in METRICS.items()} | dict.fromkeys(CHOSEN, "ground_truths")
"""Metric that is a mean → metric that says how many masks of a photo it is over."""
EQUAL = 1.03
"""Ratio up to which numbers of prompts count as equal: `grid-7` asks 49 where another strategy may ask 50."""


def summarise(metrics: pa.Table, strategies: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """Return one entry for each data × model × strategy.

    `METRICS` and `CHOSEN` each have `over_masks` (the mean over all masks of the set, the headline), `over_photos`, and
    `difference`: of the mean over masks to that of the first strategy, paired; `PRECISIONS` have `over_masks` and
    `difference`. Intervals are 95 %, by bootstrap over photos. Everything else is a mean over photos, except
    `peak_memory_most` (the largest of them), `images_per_second` (photos by the sum of their seconds) and
    `dropped_share` (of the prompts proposed). Strategies of another name than the first one's have `at_equal_prompts`:
    which strategy of the first one's name (`prompts`) decodes most prompts without decoding more than they do, its
    `prompts_decoded`, and how much higher its mIoU is, paired (`gain`). A value that no photo defines is None.

    Args:
        metrics: table of schemas/metrics.py, the photos that could be measured.
        strategies: their names in the order of the result.
        seed: seed of the bootstrap.

    Raises:
        ValueError: a photo was measured twice.
    """
    series: dict[tuple[str, str, str], Photos] = defaultdict(lambda: defaultdict(dict))
    ranked: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for row in metrics.to_pylist():
        key = row["data"], row["sam"], row["prompts"]
        photos = series[key][row["metric"]]
        if row["image_id"] in photos:
            raise ValueError(f"{row['data']}: photo {row['image_id']!r} is there twice")
        photos[row["image_id"]] = math.nan if row["value"] is None else row["value"]
        if row["ranked"] is not None:
            ranked[key][row["metric"]][row["image_id"]] = row["ranked"]
    entries = []
    for data, sam in sorted({(data, sam) for data, sam, _ in series}):
        first = series[data, sam, strategies[0]]
        drawn_first: dict[str, tuple[float, np.ndarray]] = {}
        for prompts in strategies:
            ours = series[data, sam, prompts]
            drawn = _precisions(ours, ranked[data, sam, prompts], seed)
            if prompts == strategies[0]:
                drawn_first = drawn
            entry = {"data": data, "sam": sam, "prompts": prompts} | _of_photos(ours)
            entry |= _means(ours, first, prompts != strategies[0], seed)
            for name in PRECISIONS:
                estimate = spread(*drawn[name]) if name in drawn else None
                difference = None
                if prompts != strategies[0] and name in drawn and name in drawn_first:
                    (value, draws), (value_first, draws_first) = drawn[name], drawn_first[name]
                    difference = spread(value - value_first, draws - draws_first)
                entry[name] = {
                    "over_masks": estimate and asdict(estimate),
                    "difference": difference and asdict(difference),
                }
            entries.append(entry)
        group = [entry for entry in entries if (entry["data"], entry["sam"]) == (data, sam)]
        family = [entry for entry in group if _name(entry["prompts"]) == _name(strategies[0])]
        of_family = {entry["prompts"]: series[data, sam, entry["prompts"]] for entry in family}
        for entry in group:
            theirs = series[data, sam, entry["prompts"]]
            is_other = entry["prompts"] not in of_family
            entry["at_equal_prompts"] = _gain(entry, theirs, family, of_family, seed) if is_other else None
    return entries


def _name(strategy: str) -> str:
    return strategy.partition("(")[0]


def _gain(
    entry: Mapping[str, Any],
    theirs: Photos,
    family: Sequence[Mapping[str, Any]],
    of_family: Mapping[str, Photos],
    seed: int,
) -> dict[str, Any] | None:
    """Return `at_equal_prompts` of one entry; up to `EQUAL` times as many prompts on the mean are not more."""
    budget = entry.get("prompts_decoded")
    if budget is None:
        return None
    cheap = [ours for ours in family if ours.get("prompts_decoded", math.inf) <= EQUAL * budget]
    if not cheap:
        return None
    chosen = max(cheap, key=lambda ours: ours["prompts_decoded"])
    photos, per = sorted(theirs["ground_truths"]), METRICS["miou"].per
    values, weights, reference, weights_there = (
        _values(of, metric, photos) for of in (of_family[chosen["prompts"]], theirs) for metric in ("miou", per)
    )
    gain = paired_difference(values, reference, weights, weights_there, seed=seed)
    return {
        "prompts": chosen["prompts"],
        "prompts_decoded": chosen["prompts_decoded"],
        "gain": gain and asdict(gain),
    }


def _values(of: Photos, metric: str, photos: Sequence[str]) -> list[float]:
    return [of[metric].get(photo, math.nan) if metric in of else math.nan for photo in photos]


def _means(ours: Photos, first: Photos, compared: bool, seed: int) -> dict[str, Any]:
    """Return the metrics that are means over photos, with their intervals."""
    photos = sorted(ours["ground_truths"])
    entry: dict[str, Any] = {}
    for name, per in MEANS.items():
        own, weights = _values(ours, name, photos), _values(ours, per, photos)
        over_masks = mean_interval(own, weights, seed=seed)
        over_photos = mean_interval(own, seed=seed)
        difference = None
        if compared:
            theirs = _values(first, name, photos), _values(first, per, photos)
            difference = paired_difference(own, theirs[0], weights, theirs[1], seed=seed)
        entry[name] = {
            "over_masks": over_masks and asdict(over_masks),
            "over_photos": over_photos and asdict(over_photos),
            "difference": difference and asdict(difference),
        }
    return entry


def _of_photos(ours: Photos) -> dict[str, Any]:
    """Return counts, times and memory of the photos of one entry."""
    photos = sorted(ours["ground_truths"])
    entry: dict[str, Any] = {
        "photos": len(photos),
        "ground_truths": int(sum(_values(ours, "ground_truths", photos))),
    }
    for metric in sorted(ours.keys() - MEANS.keys() - PRECISIONS.keys() - {"ground_truths"}):
        entry[metric] = weighted_mean(_values(ours, metric, photos))
    taken = [value for value in ours.get("peak_memory", {}).values() if not math.isnan(value)]
    entry["peak_memory_most"] = max(taken, default=None)
    seconds, proposed, decoded = (entry.get(key) for key in ("seconds", "prompts_proposed", "prompts_decoded"))
    entry["images_per_second"] = 1 / seconds if seconds else None
    entry["dropped_share"] = 1 - decoded / proposed if proposed and decoded is not None else None
    return entry


def _precisions(
    ours: Photos, ranked: Mapping[str, Mapping[str, Mapping[str, Any]]], seed: int
) -> dict[str, tuple[float, np.ndarray]]:
    """Return, by the name of each average precision, its value and those of the bootstrap's draws."""
    found = {}
    for name, size in PRECISIONS.items():
        truths = ours.get("ground_truths" if size is None else f"{size}_truths", {})
        photos = sorted(ranked.get(name, {}))
        if photos:
            curve = AveragePrecision([unpacked(ranked[name][photo], int(truths[photo])) for photo in photos])
            draws = resampled(curve, len(photos), resamples=PRECISION_RESAMPLES, seed=seed)
            found[name] = curve(), draws
    return found
