"""Measure what comes after decoding: ways with duplicates, and Adaptive Mask Refinement in its readings.

    python benchmarks/after_decoding.py --data bsds500/val coco/val --limit 20 --json FILE
    python benchmarks/after_decoding.py --data SHARD --prompts aop grid-32 --sam vit_b

Ways with duplicates for every strategy of --prompts (Efficient SAM2's ablation: its prompts and a grid, NMS and merge),
refinement for the first. Each photo is encoded once. Every variant is compared with box NMS without refinement on the
same photos: paired differences of mIoU (per ground truth) with 95 % bootstrap intervals. --json is written after each
photo.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import aopsam
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.metrics import METRICS, Comparison, paired_difference
from aopsam.sam.encode import encode
from benchmarks.photo_by_photo import build_parser, measure_each

DUPLICATES: dict[str, dict[str, Any]] = {
    "box-nms": {},
    "mask-nms": {"duplicates": "mask-nms"},
    "merge": {"duplicates": "merge"},
    "merge, 0.95": {"duplicates": "merge", "merge_thresh": 0.95},
}
REFINEMENTS: dict[str, dict[str, Any]] = {
    "box-nms, formula, negative": {"refine": "formula", "refine_boundary": "negative"},
    "box-nms, formula, positive": {"refine": "formula", "refine_boundary": "positive"},
    "box-nms, prose, negative": {"refine": "prose", "refine_boundary": "negative"},
    "box-nms, prose, positive": {"refine": "prose", "refine_boundary": "positive"},
}
QUALITY = ("miou", "miou_per_prediction", "miou_one_to_one", "ar_100")


def measure(
    rgb: np.ndarray, truths: Sequence[dict[str, Any]], generators: dict[tuple[str, str], AutoMaskGenerator]
) -> Iterator[dict[str, Any]]:
    """Measure every generator on one photo; yield a row for each."""
    photo = None
    for (prompts, variant), generator in generators.items():
        photo = photo or encode(generator.model, rgb)
        labelled = generator.label(rgb, photo)
        ranked = sorted(labelled.records, key=lambda r: -(r["predicted_iou"] + r["stability_score"]))
        comparison = Comparison([r["segmentation"] for r in ranked], truths)
        yield {
            "prompts": prompts,
            "variant": variant,
            **{name: METRICS[name].of(comparison) for name in QUALITY},
            "decoded": labelled.prompts_decoded,
            "refinements": labelled.refinements,
            "masks": len(labelled.records),
            "seconds": sum(labelled.seconds.values()),
        }


def table(rows: Sequence[dict[str, Any]], data: str) -> str:
    """Return the table of rows in Markdown, a line a variant."""
    lines = [
        f"### {data}",
        "| prompts | variant | mIoU | paired difference (95 %) | per prediction | one to one | AR@100 | masks |"
        " decoder passes | s/photo |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    keys = list(dict.fromkeys((row["prompts"], row["variant"]) for row in rows))
    values = {
        key: {
            name: np.array([row[name] for row in rows if (row["prompts"], row["variant"]) == key], np.float64)
            for name in (*QUALITY, "decoded", "refinements", "masks", "seconds")
        }
        for key in keys
    }
    for prompts, variant in keys:
        of = values[prompts, variant]
        mean = {name: float(np.nanmean(column)) for name, column in of.items()}
        first = values[prompts, next(iter(DUPLICATES))]["miou"]
        difference = paired_difference(of["miou"], first)
        shown = (
            f"{difference.mean:+.4f} ({difference.low:+.4f} … {difference.high:+.4f})"
            if difference and of["miou"] is not first
            else "–"
        )
        lines.append(
            f"| {prompts} | {variant} | {mean['miou']:.4f} | {shown} | {mean['miou_per_prediction']:.4f} |"
            f" {mean['miou_one_to_one']:.4f} | {mean['ar_100']:.4f} | {mean['masks']:.1f} |"
            f" {mean['decoded']:.1f} + {mean['refinements']:.1f} | {mean['seconds']:.2f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    arguments = build_parser("duplicates and refinement", ["aop", "grid-8"], 20).parse_args(argv)
    torch.set_num_threads(arguments.threads)
    model = aopsam.load_sam(arguments.sam)
    generators = {
        (prompts, variant): AutoMaskGenerator(model, prompts=prompts, output_mode="coco_rle", **options)
        for prompts in arguments.prompts
        for variant, options in (DUPLICATES | (REFINEMENTS if prompts == arguments.prompts[0] else {})).items()
    }
    measure_each(arguments, partial(measure, generators=generators), table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
