"""Box AR@10 and AR@100 of the thing head, beside its teacher NanoDet and the class-agnostic detector, and its time.

    python benchmarks/things.py --data bsds500/extra coco/val panoptic/val --teacher nanodet_g.safetensors --limit 60

All read the same square of 512 px. Times are medians of one thread; encoding is without the things.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from aopsam.detector.inference import detect
from aopsam.detector.weights import load_detector
from aopsam.masks import rle
from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.bootstrap import mean_interval
from aopsam.metrics.box_iou import box_iou_matrix
from aopsam.sam.encode import encode, square_of
from aopsam.sam.registry import load_sam
from aopsam.sam.things import find_things
from aopsam.training.annotated import load_photos
from aopsam.training.thing_head import NanoDet
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards

COUNTS = (10, 100)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table a set; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="annotated photos: tars, folders, globs or .json")
    parser.add_argument("--teacher", required=True, help="NanoDet-g's weights")
    parser.add_argument("--limit", type=int, default=60, help="photos of each set")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    sam, detector = load_sam("tiny"), load_detector()
    try:
        teacher = NanoDet.load(arguments.teacher)
        sets = {data: load_photos(list_shards(data), print, read_annotated) for data in arguments.data}
    except (ValueError, OSError) as error:
        print(f"things: {error}", file=sys.stderr)
        return 2
    seconds: list[tuple[float, float]] = []
    for data, photos in sets.items():
        recalls: dict[str, list[list[float | None]]] = {}
        counts = []
        for photo in photos[: arguments.limit]:
            began = time.perf_counter()
            encoded = encode(sam, photo.rgb)
            between = time.perf_counter()
            things = encoded.things
            seconds.append((between - began, time.perf_counter() - between))
            assert things is not None
            with torch.inference_mode():
                _, levels = teacher.trunk(square_of(sam, photo.rgb)[0])
            taught = find_things(teacher.head, levels[1], encoded.input_hw, encoded.hw)
            boxes = [rle.bbox_xywh(mask) for mask in photo.rles]
            truth = np.array(boxes, np.float64)
            truth[:, 2:] += truth[:, :2]
            counts.append(len(truth))
            found = {"things": things.boxes_px, "NanoDet": taught.boxes_px, "detector": detect(detector, encoded)[0]}
            for name, these in found.items():
                iou = box_iou_matrix(np.asarray(these, np.float64), truth)
                recalls.setdefault(name, []).append([average_recall(iou, count) for count in COUNTS])
        print(f"{data}: {len(counts)} photos, {sum(counts)} objects, box AR (95 % by photo)")
        for name, rows in recalls.items():
            said = []
            for count, column in zip(COUNTS, np.array(rows, np.float64).T, strict=True):
                estimate = mean_interval(column, counts)
                assert estimate is not None
                said.append(f"@{count} {estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})")
            print(f"  {name:<9} {', '.join(said)}")
    encoding, finding = (1e3 * statistics.median(times) for times in zip(*seconds, strict=True))
    print(f"encoding {encoding:.0f} ms, things {finding:.0f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
