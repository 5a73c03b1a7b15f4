"""Box AR@100 of a detector beside that of the boxes of `grid-32`'s masks, on the same annotated photos.

    python pipelines/label_corpus.py --images bsds500/val --out out/grid --prompts grid-32
    python benchmarks/box_recall.py --data bsds500/val --detector out/detector/detector.safetensors --labels out/grid

The masks of the labels go by score, without one by the mean of predicted IoU and stability, the detector's boxes by
score; photos that have labels and annotations are matched by the names of their files. Also the detector's time beside
the encoder's, one thread by default. Exit status: 0 where the detector's AR is above the labels' and its time below
--share of the encoder's; 1 where not; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import torch

from aopsam.detector.inference import detect
from aopsam.detector.weights import load_detector
from aopsam.masks import rle
from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.bootstrap import Estimate, mean_interval, paired_difference
from aopsam.metrics.box_iou import box_iou_matrix
from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import load_photos
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.storage.location import absolute


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser."""
    parser = argparse.ArgumentParser(description="box recall of a detector and of grid-32's masks")
    parser.add_argument("--data", nargs="+", required=True, help="annotated photos: tars, folders, globs or .json")
    parser.add_argument("--detector", required=True, help="file of pipelines/train_detector.py")
    parser.add_argument("--labels", nargs="+", required=True, help="folders that pipelines/label_corpus.py wrote")
    parser.add_argument("--count", type=int, default=100, help="boxes of a photo that count (default: %(default)s)")
    parser.add_argument("--checkpoint", help="weights of the SAM, where not the official or bundled")
    parser.add_argument("--share", type=float, default=0.15, help="of the encoder's time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; return the exit status."""
    arguments = build_parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    try:
        detector = load_detector(arguments.detector)
        model = load_sam(detector.sam, arguments.checkpoint)
        if model.sha256 != detector.sam_sha256:
            raise ValueError(f"{arguments.detector}: trained for other weights of {detector.sam}; give --checkpoint")
        labelled = {name: boxes for folder in arguments.labels for name, boxes in label_boxes(folder).items()}
        shards = [shard for data in arguments.data for shard in list_shards(absolute(data))]
        photos = [photo for photo in load_photos(shards, print, read_annotated) if photo.id in labelled]
        if not photos:
            raise ValueError("no photo of --data has labels")
    except (ValueError, OSError) as error:
        print(f"box_recall: {error}", file=sys.stderr)
        return 2
    detect(detector, encode(model, photos[0].rgb))  # the first call of everything is slower
    recalls, counts, seconds = [], [], []
    for photo in photos:
        began = time.perf_counter()
        encoded = encode(model, photo.rgb)
        between = time.perf_counter()
        found, _ = detect(detector, encoded)
        seconds.append((between - began, time.perf_counter() - between))
        truth = boxes_xyxy([rle.bbox_xywh(mask) for mask in photo.rles])
        pair = (found, labelled[photo.id])
        recalls.append([average_recall(box_iou_matrix(boxes, truth), arguments.count) for boxes in pair])
        counts.append(len(truth))
    ours, grid = np.array(recalls, np.float64).T
    difference = paired_difference(ours, grid, counts, counts)
    assert difference is not None
    print(f"{len(photos)} photos, {sum(counts)} objects, box AR@{arguments.count} over objects (95 % by photo):")
    for name, estimate in (("detector", mean_interval(ours, counts)), ("labels", mean_interval(grid, counts))):
        print(f"  {name:<10} {_shown(estimate)}")
    print(f"  difference {_shown(difference)}")
    encoder, head = (statistics.median(times) for times in zip(*seconds, strict=True))
    print(f"median of {len(photos)} photos, {arguments.threads} thread(s): encoder {encoder * 1e3:.1f} ms,", end=" ")
    print(f"detector {head * 1e3:.1f} ms, {head / encoder:.1%} of it")
    return 0 if difference.mean > 0 and head < arguments.share * encoder else 1


def _rank(mask: Mapping[str, Any]) -> float:
    mean: float = (mask["predicted_iou"] + mask["stability_score"]) / 2
    return mean if mask["score"] is None else mask["score"]


def label_boxes(folder: str) -> dict[str, np.ndarray]:
    """Read the boxes of a labelling run: photo's name without folder and suffix -> (M, 4) XYXY, best first.

    Args:
        folder: OUT or OUT/labels of the run.

    Raises:
        ValueError: no labels there, or two photos of one name.
    """
    filesystem, path = fsspec.url_to_fs(absolute(folder))
    root = path.rstrip("/").removesuffix("/labels")
    boxes: dict[str, np.ndarray] = {}
    for file in sorted(filesystem.glob(f"{root}/labels/*.parquet")):
        with filesystem.open(file, "rb") as opened:
            rows: list[dict[str, Any]] = pq.read_table(opened, columns=["file_name", "masks"]).to_pylist()
        for row in rows:
            name = PurePosixPath(row["file_name"].rpartition("#")[2]).stem
            if name in boxes:
                raise ValueError(f"{folder}: two photos are named {name}; compare shard by shard")
            masks = sorted(row["masks"], key=lambda mask: -_rank(mask))
            boxes[name] = boxes_xyxy([mask["bbox"] for mask in masks])
    if not boxes:
        raise ValueError(f"{folder}: no labels (labels/*.parquet); make them with pipelines/label_corpus.py")
    return boxes


def boxes_xyxy(boxes_xywh: Sequence[Sequence[float]]) -> np.ndarray:
    """Convert N boxes XYWH to XYXY corners, (N, 4)."""
    boxes = np.array(boxes_xywh, np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _shown(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.mean:+.4f} ({estimate.low:+.4f} … {estimate.high:+.4f})"


if __name__ == "__main__":
    raise SystemExit(main())
