"""Everything mode without PyTorch (`examples/onnx_everything.py`) beside the generator: agreement, seconds, size.

    python benchmarks/onnx_agreement.py --images samples --prompts aop grid-16 --json FILE

Exports a model, then labels all photos of a folder both ways, each in a process of its own on one core of this machine;
seconds are of a photo, the process's start in them. The generator has the example's settings: prompts without
things, masks ranked by predicted IoU, as the decoder makes them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

ROOT = Path(__file__).parents[1]
SAME = 0.99
"""IoU from which two masks are the same."""

GENERATOR = """
import json, sys
import numpy as np
from PIL import Image
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.sam.registry import load_sam
sam, prompts, *photos = sys.argv[1:]
options = {"things": 0} if prompts == "aop" else None
more = {"rank_by": "predicted_iou", "redraw": False, "output_mode": "coco_rle"}
generator = AutoMaskGenerator(load_sam(sam), prompts=prompts, strategy_options=options, **more)
print(json.dumps({photo: generator.generate(np.array(Image.open(photo).convert("RGB"))) for photo in photos}))
"""


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description="the torch-free everything mode beside the generator")
    parser.add_argument("--images", type=Path, default=ROOT / "samples", help="folder of JPEGs")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--prompts", nargs="+", default=["aop", "grid-16"])
    parser.add_argument("--json", type=Path, help="where to write all figures")
    arguments = parser.parse_args()
    photos = [str(path.resolve()) for path in sorted(arguments.images.glob("*.jpg"))]
    if not photos:
        print(f"onnx_agreement: {arguments.images}: no *.jpg there", file=sys.stderr)
        return 2
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # as do the processes that this one starts
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        export = [str(ROOT / "pipelines/export_onnx.py"), "--sam", arguments.sam, "--out", folder]
        subprocess.run([sys.executable, *export], cwd=ROOT, check=True)
        for prompts in arguments.prompts:
            ours, seconds = _labelled(["-c", GENERATOR, arguments.sam, prompts, *photos])
            example = str(ROOT / "examples/onnx_everything.py")
            theirs, theirs_seconds = _labelled([example, folder, prompts, *photos])
            counts = np.sum([_matched(ours[photo], theirs[photo]) for photo in photos], axis=0).tolist()
            figures[prompts] = dict(zip(("masks", "onnx_masks", "matched", "onnx_matched"), counts, strict=True)) | {
                "seconds_a_photo": seconds / len(photos),
                "onnx_seconds_a_photo": theirs_seconds / len(photos),
            }
            print(prompts, json.dumps(figures[prompts]))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _labelled(program: list[str]) -> tuple[dict[str, list[dict[str, Any]]], float]:
    """Run a program that prints each photo's records; return them, and the seconds that it took."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *program], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), time.perf_counter() - began


def _matched(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Count the masks of both, and those of each that the other has, too."""
    if not ours or not theirs:
        return len(ours), len(theirs), 0, 0
    codes = ([record["segmentation"] for record in records] for records in (ours, theirs))
    same = coco.iou(*codes, [0] * len(theirs)) >= SAME
    return len(ours), len(theirs), int(same.any(axis=1).sum()), int(same.any(axis=0).sum())


if __name__ == "__main__":
    sys.exit(main())
