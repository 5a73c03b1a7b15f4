"""Does our everything mode give the masks of `SamAutomaticMaskGenerator`? Same model, thresholds and photos.

    python benchmarks/agreement.py --photos PHOTOS --count 20
    python benchmarks/agreement.py --photos PHOTOS --count 5 --sam vit_b --checkpoint sam_vit_b_01ec64.pth --grid 32
    python benchmarks/agreement.py --photos PHOTOS --count 1 --sam vit_b --runtime openvino --same 0.95 --least 0.97

For each photo: the share of SAM's masks that have one of ours at IoU ≥ --same, the share of ours that have one of
SAM's, and the seconds of both. SAM's generator keeps the plain float32 encoder whatever ours has. An encoder whose
weights are not here borrows the embedding of `tiny` (benchmarks/speed.py). Exit status: 0 where both shares reach
--least over all photos and each photo has --masks of SAM's; 1 where not; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.metrics import iou_matrix
from aopsam.photos.decode import PhotoError, open_photo
from aopsam.sam.encode import PRECISIONS, set_encoder_precision
from aopsam.sam.openvino_encoder import use_openvino
from aopsam.sam.registry import load_sam
from benchmarks.speed import is_missing, reference, stand_in

# isort: split
from segment_anything import SamAutomaticMaskGenerator  # after aopsam, which mends a torchvision without operators


def build_parser() -> argparse.ArgumentParser:
    """Build the command line's parser; thresholds that are not given are the model's own."""
    parser = argparse.ArgumentParser(description="masks of our everything mode beside segment-anything's")
    parser.add_argument("--photos", required=True, type=Path, help="folder of photos, read in the order of their names")
    parser.add_argument("--count", type=int, default=20, help="photos")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--checkpoint")
    parser.add_argument("--grid", type=int, default=16, help="points per side")
    parser.add_argument("--pred-iou-thresh", type=float)
    parser.add_argument("--stability-score-thresh", type=float)
    parser.add_argument("--box-nms-thresh", type=float)
    parser.add_argument("--least", type=float, default=0.98, help="share that must agree, both ways")
    parser.add_argument("--masks", type=int, default=20, help="masks of SAM's that each photo must have to count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--same", type=float, default=0.99, help="IoU from which two masks are the same")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of our image encoder")
    parser.add_argument("--runtime", choices=["torch", "openvino"], default="torch", help="of our image encoder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare; return the exit status."""
    arguments = build_parser().parse_args(argv)
    torch.set_num_threads(arguments.threads)
    try:
        paths = sorted(path for path in arguments.photos.iterdir() if path.is_file())[: arguments.count]
        photos = [(path.name, open_photo(path.read_bytes()).rgb) for path in paths]
        if arguments.checkpoint is None and is_missing(arguments.sam):
            model = stand_in(arguments.sam)
        else:
            model = load_sam(arguments.sam, arguments.checkpoint)
    except (ValueError, OSError, PhotoError) as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 2
    settings = {
        "points_per_side": arguments.grid,
        "pred_iou_thresh": _either(arguments.pred_iou_thresh, model.thresholds.pred_iou_thresh),
        "stability_score_thresh": _either(arguments.stability_score_thresh, model.thresholds.stability_score_thresh),
        "box_nms_thresh": _either(arguments.box_nms_thresh, model.thresholds.box_nms_thresh),
        "output_mode": "coco_rle",
    }
    print(f"{arguments.sam} {model.sha256[:12]}, {', '.join(f'{key}={value}' for key, value in settings.items())}")
    theirs = SamAutomaticMaskGenerator(reference(copy.deepcopy(model)), **settings)
    if arguments.runtime == "openvino":
        use_openvino(model, arguments.precision)
    else:
        set_encoder_precision(model, arguments.precision)
    generators = (theirs, AutoMaskGenerator(model, **settings))
    print(f"{'photo':<32}{'SAM':>6}{'ours':>6}{'SAM in ours':>13}{'ours in SAM':>13}{'SAM s':>8}{'ours s':>8}")
    counts, same, seconds, fewest = [0, 0], [0, 0], [0.0, 0.0], None
    for name, rgb in photos:
        found, took = [], []
        for generator in generators:
            began = time.perf_counter()
            found.append([record["segmentation"] for record in generator.generate(rgb)])
            took.append(time.perf_counter() - began)
        iou = iou_matrix(*found) >= arguments.same
        agree = [int(iou.any(axis=1).sum()), int(iou.any(axis=0).sum())]
        masks = [len(found[0]), len(found[1])]
        print(f"{name[:31]:<32}{_row(masks, agree, took)}", flush=True)
        fewest = masks[0] if fewest is None else min(fewest, masks[0])
        counts = [total + new for total, new in zip(counts, masks, strict=True)]
        same = [total + new for total, new in zip(same, agree, strict=True)]
        seconds = [total + new for total, new in zip(seconds, took, strict=True)]
    print(f"{f'{len(photos)} photos':<32}{_row(counts, same, seconds)}")
    print(f"fewest masks of SAM's on a photo: {fewest}")
    enough = fewest is not None and fewest >= arguments.masks
    return 0 if enough and all(s >= arguments.least * n for s, n in zip(same, counts, strict=True)) else 1


def _row(masks: list[int], agree: list[int], seconds: list[float]) -> str:
    shares = [f"{count / total:.4f}" if total else "–" for count, total in zip(agree, masks, strict=True)]
    return f"{masks[0]:>6}{masks[1]:>6}{shares[0]:>13}{shares[1]:>13}{seconds[0]:>8.2f}{seconds[1]:>8.2f}"


def _either(given: float | None, default: float) -> float:
    return default if given is None else given


if __name__ == "__main__":
    raise SystemExit(main())
