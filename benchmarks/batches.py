"""Measure what photos labelled together gain, and whether their masks are those of a photo alone.

    python benchmarks/batches.py --sam tiny --prompts aop grid-16
    PYTHONPATH=. python benchmarks/batches.py --sam vit_b --device cuda --rounds 10

Photos per second by `label_together` with 1, 2, 4 and 8 photos at once, in turns in one run, after a turn that does not
count; `ratio` is to the first of them, `CPU` by processor time, which the load of others touches least. `equal` counts
the masks whose RLE is that of the photo labelled alone, and `IoU` is the least IoU with the mask in its place where one
is not (– where a photo has another number of masks); `estimate` is the largest difference of predicted IoU. Photos are
those of --images again and again. The library alone, without Ray, Arrow and pycocotools. An encoder whose weights are
not here borrows the embedding of `tiny` (`speed.py`).
"""

from __future__ import annotations

import benchmarks.without_pycocotools  # isort: skip  # noqa: F401 - before aopsam
import aopsam  # isort: skip  # noqa: F401 - before segment_anything

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.ledger import STAGES, Labelled
from aopsam.masks import rle
from aopsam.photos.decode import open_photo
from aopsam.sam.registry import MODELS, load_sam
from benchmarks.speed import is_missing, machine, stand_in


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="photos per second, labelled together and alone")
    parser.add_argument(
        "--images", type=Path, default=Path(__file__).parent.parent / "samples", help="folder of photos"
    )
    parser.add_argument("--sam", choices=MODELS, default="tiny")
    parser.add_argument("--prompts", nargs="+", default=["aop", "grid-16", "attention"])
    parser.add_argument("--at-once", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--count", type=int, default=8, help="photos")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured; the median counts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status: 1 where a mask is not that of its photo alone."""
    arguments = build_parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    files = sorted(path for path in arguments.images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    photos = list(islice(cycle([open_photo(path.read_bytes()).rgb for path in files]), arguments.count))
    model = stand_in(arguments.sam) if is_missing(arguments.sam) else load_sam(arguments.sam)
    model.to(arguments.device)
    print(f"{arguments.sam}, {len(photos)} photos, {arguments.threads} thread(s), {machine(arguments.device)}")
    print(f"{'prompts':<12}{'at once':>8}{'photos/s':>10}{'ratio':>7}{'CPU':>7}", end="")
    print("".join(f"{stage:>9}" for stage in STAGES), f"{'equal':>13}{'IoU':>8}{'estimate':>10}{'GPU MB':>8}")
    equal = True
    for prompts in arguments.prompts:
        generator = AutoMaskGenerator(model, prompts=prompts, output_mode="coco_rle")
        equal &= measure(generator, photos, prompts, arguments)
    return 0 if equal else 1


def measure(
    generator: AutoMaskGenerator, photos: list[np.ndarray], prompts: str, arguments: argparse.Namespace
) -> bool:
    """Measure one strategy and print a row for each number of photos at once; return whether all masks are equal."""
    expected = [generator.label(photo) for photo in photos]
    found: dict[int, list[Labelled]] = {}
    memory: dict[int, float] = {}
    for at_once in arguments.at_once:
        if arguments.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        found[at_once] = label(generator, photos, at_once)
        memory[at_once] = torch.cuda.max_memory_allocated() / 2**20 if arguments.device.startswith("cuda") else 0.0
    seconds: dict[int, list[float]] = {at_once: [] for at_once in found}
    cpu: dict[int, list[float]] = {at_once: [] for at_once in found}
    stages: dict[int, dict[str, float]] = {at_once: dict.fromkeys(STAGES, 0.0) for at_once in found}
    for _ in range(arguments.rounds):
        for at_once in found:
            began, began_cpu = time.perf_counter(), time.process_time()
            for labelled in label(generator, photos, at_once):
                for stage in STAGES:
                    stages[at_once][stage] += labelled.seconds[stage] / len(photos) / arguments.rounds
            seconds[at_once].append(time.perf_counter() - began)
            cpu[at_once].append(time.process_time() - began_cpu)
    first, equal = arguments.at_once[0], True
    for at_once, taken in seconds.items():
        same, masks, iou, estimate = compare(found[at_once], expected)
        median = statistics.median(taken)
        ratio = statistics.median(seconds[first]) / median
        ratio_of_cpu = statistics.median(cpu[first]) / statistics.median(cpu[at_once])
        print(f"{prompts:<12}{at_once:>8}{len(photos) / median:>10.3f}{ratio:>7.2f}{ratio_of_cpu:>7.2f}", end="")
        print("".join(f"{stages[at_once][stage]:>9.3f}" for stage in STAGES), f"{f'{same}/{masks}':>13}", end="")
        print(f"{'–' if iou is None else f'{iou:.4f}':>8}{estimate:>10.0e}{memory[at_once]:>8.0f}", flush=True)
        equal &= same == masks and iou is not None
    return equal


def label(generator: AutoMaskGenerator, photos: list[np.ndarray], at_once: int) -> list[Labelled]:
    """Label photos, some at once.

    Raises:
        Exception: whatever one of them raised.
    """
    found = []
    for start in range(0, len(photos), at_once):
        for outcome in generator.label_together(photos[start : start + at_once]):
            if isinstance(outcome, Exception):
                raise outcome
            found.append(outcome)
    return found


def compare(found: list[Labelled], expected: list[Labelled]) -> tuple[int, int, float | None, float]:
    """Compare the masks of photos with those expected, place by place.

    Returns:
        Masks of equal RLE, masks expected, the least IoU (None where their number differs), and the largest difference
        of predicted IoU.
    """
    same, masks, least, estimate = 0, 0, 1.0, 0.0
    alike = True
    for one, other in zip(found, expected, strict=True):
        masks += len(other.records)
        alike &= len(one.records) == len(other.records)
        for record, wanted in zip(one.records, other.records, strict=False):
            estimate = max(estimate, abs(record["predicted_iou"] - wanted["predicted_iou"]))
            if record["segmentation"] == wanted["segmentation"]:
                same += 1
            else:
                least = min(least, iou(record["segmentation"], wanted["segmentation"]))
    return same, masks, least if alike else None, estimate


def iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the IoU of two masks in COCO's RLE."""
    mask, wanted = rle.decode(one), rle.decode(other)
    return float((mask & wanted).sum() / max((mask | wanted).sum(), 1))


if __name__ == "__main__":
    raise SystemExit(main())
