"""From metrics of photos to a table of strategies: means, intervals, differences to the first strategy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from aopsam.metrics import mean_interval, paired_difference, weighted_mean

WEIGHTS = {
    "miou": "ground_truths",
    "miou_per_prediction": "masks_kept",
    "miou_one_to_one": "ground_truths",
    **{f"ar_{most}": "ground_truths" for most in (10, 100, 1000)},
    **{f"ar_{size}": f"{size}_truths" for size in ("small", "medium", "large")},
}
"""Metric → the count that turns its mean over photos into a mean over masks."""

_HEAD = (
    ("prompts", "prompts"),
    ("mIoU", "miou"),
    ("95 %", "interval"),
    ("by photo", "by_photo"),
    ("per pred.", "miou_per_prediction"),
    ("1:1", "miou_one_to_one"),
    ("AR@10", "ar_10"),
    ("AR@100", "ar_100"),
    ("AR@1000", "ar_1000"),
    ("vs first", "difference"),
    ("95 %", "difference_interval"),
    ("proposed", "prompts_proposed"),
    ("decoded", "prompts_decoded"),
    ("kept", "masks_kept"),
    ("s/photo", "seconds"),
    ("encode", "seconds_encode"),
    ("prompt", "seconds_prompt"),
    ("decode", "seconds_decode"),
    ("filter", "seconds_filter"),
    ("rle", "seconds_rle"),
)


def summarise(metrics: pa.Table, strategies: Sequence[str], seed: int = 0) -> list[dict[str, Any]]:
    """One entry a data × model × strategy.

    The metrics of `WEIGHTS` each have `over_masks` (the mean over all masks of the set, the headline), `over_photos`,
    and `difference`: of the mean over masks to that of the first strategy, paired. Intervals are 95 %, by bootstrap
    over photos. Everything else is a mean over photos. A value that no photo defines is None.

    Args:
        metrics: of schemas/metrics.py, the photos that could be measured.
        strategies: their names in the order of the result.
        seed: of the bootstrap.

    Raises:
        ValueError: a photo was measured twice.
    """
    series: dict[tuple[str, str, str], dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in metrics.to_pylist():
        photos = series[row["data"], row["sam"], row["prompts"]][row["metric"]]
        if row["image_id"] in photos:
            raise ValueError(f"{row['data']}: photo {row['image_id']!r} is there twice")
        photos[row["image_id"]] = math.nan if row["value"] is None else row["value"]
    groups = list(dict.fromkeys((data, sam) for data, sam, _ in series))
    return [
        _entry(data, sam, prompts, series[data, sam, prompts], series[data, sam, strategies[0]], strategies[0], seed)
        for data, sam in sorted(groups)
        for prompts in strategies
    ]


def _entry(
    data: str,
    sam: str,
    prompts: str,
    ours: Mapping[str, Mapping[str, float]],
    first: Mapping[str, Mapping[str, float]],
    first_name: str,
    seed: int,
) -> dict[str, Any]:
    photos = sorted(ours["ground_truths"])

    def values(of: Mapping[str, Mapping[str, float]], metric: str) -> list[float]:
        return [of[metric][photo] if metric in of else math.nan for photo in photos]

    entry: dict[str, Any] = {"data": data, "sam": sam, "prompts": prompts, "photos": len(photos)}
    entry["ground_truths"] = int(sum(values(ours, "ground_truths")))
    for metric, weight in WEIGHTS.items():
        own, weights = values(ours, metric), values(ours, weight)
        over_masks = mean_interval(own, weights, seed=seed)
        over_photos = mean_interval(own, seed=seed)
        difference = None
        if prompts != first_name:
            difference = paired_difference(own, values(first, metric), weights, values(first, weight), seed=seed)
        entry[metric] = {
            "over_masks": over_masks and asdict(over_masks),
            "over_photos": over_photos and asdict(over_photos),
            "difference": difference and asdict(difference),
        }
    for metric in sorted(ours.keys() - WEIGHTS.keys() - {"ground_truths"}):
        entry[metric] = weighted_mean(values(ours, metric))
    return entry


def text_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """The entries of `summarise` as aligned text, one block for each data and model; also valid Markdown."""
    blocks = []
    for data, sam in dict.fromkeys((entry["data"], entry["sam"]) for entry in entries):
        group = [entry for entry in entries if (entry["data"], entry["sam"]) == (data, sam)]
        rows = [[title for title, _ in _HEAD]] + [_cells(entry) for entry in group]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = ["| " + " | ".join(_aligned(row, widths)) + " |" for row in rows]
        rule = "|" + "|".join(f"{'-' * (width + 1)}{'-' if i == 0 else ':'}" for i, width in enumerate(widths)) + "|"
        title = f"{data} · {sam} · {group[0]['photos']} photos, {group[0]['ground_truths']} ground-truth masks"
        blocks.append("\n".join([title, "", lines[0], rule, *lines[1:]]))
    return "\n\n".join(blocks) + "\n"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]


def _cells(entry: Mapping[str, Any]) -> list[str]:
    miou = entry["miou"]
    shown = {
        "prompts": entry["prompts"],
        "miou": _mean(miou["over_masks"]),
        "interval": _interval(miou["over_masks"]),
        "by_photo": _mean(miou["over_photos"]),
        "miou_per_prediction": _mean(entry["miou_per_prediction"]["over_masks"]),
        "miou_one_to_one": _mean(entry["miou_one_to_one"]["over_masks"]),
        "difference": _mean(miou["difference"], "+.3f"),
        "difference_interval": _interval(miou["difference"], "+.3f"),
    }
    for _, key in _HEAD:
        if key.startswith("ar_"):
            shown[key] = _mean(entry[key]["over_masks"])
        elif key not in shown:
            shown[key] = "–" if entry[key] is None else f"{entry[key]:.{2 if key.startswith('seconds') else 1}f}"
    return [shown[key] for _, key in _HEAD]


def _mean(estimate: Mapping[str, float] | None, spec: str = ".3f") -> str:
    return "–" if estimate is None else format(estimate["mean"], spec)


def _interval(estimate: Mapping[str, float] | None, spec: str = ".3f") -> str:
    return "–" if estimate is None else f"{estimate['low']:{spec}} … {estimate['high']:{spec}}"
