"""Merging against NMS (Efficient SAM2, Table 3), swept: each photo's prompts are decoded once, and what they gave is
merged or suppressed in every way.

    python benchmarks/merging.py --data bsds500/extra coco/val panoptic/val --limit 15 --json FILE

For each strategy of --prompts, with one mask a prompt (the best of three by predicted IoU), and for the first one with
three, too: box NMS, mask NMS, and merging at thresholds from 0.5 to 0.95, masks ranked by predicted IoU. Differences of
mIoU to box NMS on the same photos, over masks, with 95 % intervals by bootstrap over photos. --json is written after
each photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import aopsam
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks import rle
from aopsam.masks.duplicates import DUPLICATES
from aopsam.masks.runs import Runs
from aopsam.metrics import METRICS, Comparison, mean_interval, paired_difference
from aopsam.sam.encode import encode
from benchmarks.photo_by_photo import build_parser, measure_each

WAYS: dict[str, tuple[str, float]] = {
    "box-nms": ("box-nms", 0.7),
    "mask-nms": ("mask-nms", 0.7),
    **{f"merge, {thresh:g}": ("merge", thresh) for thresh in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)},
}
QUALITY = ("miou", "miou_per_prediction", "miou_one_to_one", "ar_10", "ar_100")


def measure(
    rgb: np.ndarray, truths: Sequence[dict[str, Any]], generators: dict[tuple[str, int], AutoMaskGenerator]
) -> Iterator[dict[str, Any]]:
    """Measure every way on one photo; yield a row for each."""
    photo = None
    for (prompts, masks), generator in generators.items():
        photo = photo or encode(generator.model, rgb)
        labelled = generator.label(rgb, photo)
        runs = [Runs.of_mask(record["segmentation"]) for record in labelled.records]
        scores = np.array([record["predicted_iou"] for record in labelled.records], np.float32)
        for way, (duplicates, thresh) in WAYS.items():
            kept = [rle.from_runs(union) for _, union in DUPLICATES[duplicates](runs, scores, thresh)]
            comparison = Comparison(kept, truths)
            yield {
                "prompts": prompts,
                "masks_per_prompt": masks,
                "way": way,
                "truths": len(truths),
                "decoded": labelled.prompts_decoded,
                "masks": len(kept),
                "largest": max((rle.area(mask) for mask in kept), default=0) / (rgb.shape[0] * rgb.shape[1]),
                **{name: METRICS[name].of(comparison) for name in QUALITY},
            }


def table(rows: Sequence[dict[str, Any]], data: str) -> str:
    """Return the table of rows in Markdown, a line a way."""
    lines = [
        f"### {data}",
        "| prompts | masks a prompt | then | mIoU | to box NMS (95 %) | per prediction | one to one | AR@10 | AR@100 |"
        " decoded | masks | largest, share of the photo |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["prompts"], row["masks_per_prompt"], row["way"]), []).append(row)
    for (prompts, masks, way), own in groups.items():
        of = {
            name: np.array([row[name] for row in own], np.float64)
            for name in (*QUALITY, "truths", "decoded", "masks", "largest")
        }
        first = groups[prompts, masks, "box-nms"]
        nms = np.array([row["miou"] for row in first], np.float64)
        estimate = mean_interval(of["miou"], of["truths"])
        difference = None if way == "box-nms" else paired_difference(of["miou"], nms, of["truths"], of["truths"])
        shown = f"{difference.mean:+.3f} ({difference.low:+.3f} … {difference.high:+.3f})" if difference else "–"
        means = " | ".join(f"{np.nanmean(of[name]):.3f}" for name in QUALITY[1:])
        lines.append(
            f"| {prompts} | {masks} | {way} | {estimate.mean if estimate else np.nan:.3f} | {shown} | {means} |"
            f" {of['decoded'].mean():.1f} | {of['masks'].mean():.1f} | {of['largest'].mean():.2f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    prompts = ["attention-low-latency", "attention-high-quality", "attention-sam1", "grid-10"]
    arguments = build_parser("merging and NMS", prompts, 15).parse_args(argv)
    torch.set_num_threads(arguments.threads)
    model = aopsam.load_sam(arguments.sam)
    generators = {
        (prompts, masks): AutoMaskGenerator(
            model,
            prompts=prompts,
            duplicates="none",
            rank_by="predicted_iou",
            masks_per_prompt=masks,
        )
        for prompts in arguments.prompts
        for masks in ((1, 3) if prompts == arguments.prompts[0] else (1,))
    }
    measure_each(arguments, partial(measure, generators=generators), table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
