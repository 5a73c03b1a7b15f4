"""Tiles on a made-up scene with known objects across seams: is every object found, once, and none twice?

    python benchmarks/tiling.py --megapixels 100 --tile 2048 --json FILE
    python benchmarks/tiling.py --megapixels 100 --tile 2048 --exact
    python benchmarks/tiling.py --megapixels 4 --tile 1024 --ground plain gradient grain

Flat-coloured ellipses, rectangles and blobs, none over another. For every object: the best IoU of a mask, and how many
masks have an IoU above 0.5 with it. With --exact every tile is given what it shows of the objects in place of a model's
masks: what the seams alone cost. Exits with 1 if an object is below 0.9 or has not exactly one such mask.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import aopsam
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.ledger import Labelled
from aopsam.masks import rle
from aopsam.masks.mask_nms import mask_nms
from aopsam.masks.runs import Runs, union
from aopsam.masks.tiles import join, tile_boxes
from aopsam.metrics import iou_matrix

GROUNDS = ("plain", "gradient", "grain")
KINDS = ("ellipse", "rectangle", "blob")
IOU, AGAIN = 0.9, 0.5
COLOURS = np.array(
    [[230, 40, 40], [30, 60, 220], [245, 230, 60], [20, 20, 20], [250, 250, 250], [30, 170, 60], [220, 60, 220]]
)


@dataclass(frozen=True)
class Scene:
    """Photo (H, W, 3) uint8 and the masks of its objects, with their kinds."""

    rgb: np.ndarray
    masks: list[Runs]
    kinds: list[str]


def made_scene(hw: tuple[int, int], cell: int, seed: int, ground: str = "plain") -> Scene:
    """Make a scene with one object in each cell of a lattice, none beyond its cell, so none over another.

    Args:
        hw: rows and columns of the photo.
        cell: about the side of a cell of the lattice, pixels; objects are half to nine tenths of it.
        seed: seed of all random choices.
        ground: `plain`, `gradient` (two colours across) or `grain` (noise of ±12, on objects too).
    """
    rng = np.random.default_rng(seed)
    rgb = _ground(hw, ground, rng)
    masks, kinds = list[Runs](), list[str]()
    rows, columns = (np.linspace(0, side, max(1, round(side / cell)) + 1).astype(int) for side in hw)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            kind = KINDS[len(masks) % len(KINDS)]
            height, width = (max(8, int(rng.uniform(0.45, 0.9) * side)) for side in (bottom - top, right - left))
            y, x = top + rng.integers(0, bottom - top - height), left + rng.integers(0, right - left - width)
            shape = _shape(kind, height, width, rng)
            part = rgb[y : y + height, x : x + width]
            part[shape] = COLOURS[len(masks) % len(COLOURS)]
            masks.append(Runs.of_mask(shape).placed(int(x), int(y), hw))
            kinds.append(kind)
    if ground == "grain":
        tile = rng.integers(-12, 13, (256, 256, 3), dtype=np.int16)
        for top in range(0, hw[0], 256):
            for left in range(0, hw[1], 256):
                part = rgb[top : top + 256, left : left + 256]
                part[:] = (part + tile[: part.shape[0], : part.shape[1]]).clip(0, 255)
    return Scene(rgb, masks, kinds)


def _ground(hw: tuple[int, int], ground: str, rng: np.random.Generator) -> np.ndarray:
    ends = rng.uniform(100, 160, (2, 3))
    rgb = np.empty((*hw, 3), np.uint8)
    rgb[:] = ends[0]
    if ground == "gradient":
        rgb[:] = (ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, hw[1])[:, None]).astype(np.uint8)
    return rgb


def _shape(kind: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Make the mask of an object, (height, width) bool, that reaches all four sides, or nearly."""
    if kind == "rectangle":
        return np.ones((height, width), np.bool_)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    if kind == "ellipse":
        return np.asarray(x**2 + y**2 <= 1)
    angle, phase = np.arctan2(y, x), rng.uniform(0, 2 * np.pi)
    return np.asarray(np.hypot(x, y) <= 0.8 + 0.2 * np.sin(3 * angle + phase))


def exactly_labelled(scene: Scene, tile: int, overlap: float) -> list[dict[str, Any]]:
    """Return the records of the objects, each cut by every tile and joined again."""
    hw = (scene.rgb.shape[0], scene.rgb.shape[1])
    pieces = [
        (shown.placed(box[0], box[1], hw), box)
        for box in tile_boxes(hw, tile, overlap)
        for mask in scene.masks
        if (shown := mask.within(*box)).area
    ]
    masks, tiles = zip(*pieces, strict=True)
    groups = join(masks, tiles, [1.0] * len(masks), 0.7).groups
    joined = [union([masks[i] for i in group]) for group in groups]
    kept = mask_nms(joined, np.ones(len(joined), np.float32), 0.5)  # what lies inside two tiles is there twice
    return [{"segmentation": rle.from_runs(joined[i])} for i in kept.tolist()]


def judge(scene: Scene, records: Sequence[dict[str, Any]], tile: int, overlap: float) -> list[dict[str, Any]]:
    """Return, for every object, its kind, area, number of tiles, best IoU, and masks with an IoU above `AGAIN`."""
    truths = [rle.from_runs(mask) for mask in scene.masks]
    iou = iou_matrix([record["segmentation"] for record in records], truths)
    tiles = tile_boxes(scene.rgb.shape[:2], tile, overlap)
    rows = []
    for i, (mask, kind) in enumerate(zip(scene.masks, scene.kinds, strict=True)):
        x0, y0, x1, y1 = mask.box_xyxy_px
        whole = any(x0 >= tx0 and y0 >= ty0 and x1 < tx1 and y1 < ty1 for tx0, ty0, tx1, ty1 in tiles)
        best = float(iou[:, i].max(initial=0))
        rows.append(
            {
                "kind": kind,
                "box": [x0, y0, x1, y1],
                "area": mask.area,
                "larger_than_a_tile": max(x1 - x0, y1 - y0) >= tile,
                "across_seams": not whole,
                "iou": best,
                "masks": int((iou[:, i] > AGAIN).sum()),
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Make the scenes, label them, judge; return the exit status."""
    parser = argparse.ArgumentParser(description="tiles on a made-up scene")
    parser.add_argument("--sam", default="tiny")
    parser.add_argument("--prompts", default="grid-8")
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--tile", type=int, default=2048)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--cell", type=float, default=0.6, help="side of the lattice that holds the objects, in tiles")
    parser.add_argument("--ground", nargs="+", choices=GROUNDS, default=["plain"])
    parser.add_argument("--mask-nms-thresh", type=float, default=0.5)
    parser.add_argument("--exact", action="store_true", help="true pieces in place of a model's masks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    hw = tuple(round((arguments.megapixels * 1e6 * ratio) ** 0.5) for ratio in (8000 / 12500, 12500 / 8000))
    results, failed = {}, 0
    generator = AutoMaskGenerator(
        aopsam.load_sam(arguments.sam),
        prompts=arguments.prompts,
        output_mode="coco_rle",
        duplicates="mask-nms",
        mask_nms_thresh=arguments.mask_nms_thresh,
        tile_size=arguments.tile,
        tile_overlap=arguments.overlap,
    )
    for ground in arguments.ground:
        scene = made_scene((hw[0], hw[1]), round(arguments.cell * arguments.tile), arguments.seed, ground)
        began = time.perf_counter()
        if arguments.exact:
            labelled = Labelled(exactly_labelled(scene, arguments.tile, arguments.overlap))
        else:
            labelled = generator.label(scene.rgb)
        seconds = time.perf_counter() - began
        rows = judge(scene, labelled.records, arguments.tile, arguments.overlap)
        bad = [row for row in rows if row["iou"] < IOU or row["masks"] != 1]
        failed += len(bad)
        results[ground] = {
            "objects": len(rows),
            "across_seams": sum(row["across_seams"] for row in rows),
            "larger_than_a_tile": sum(row["larger_than_a_tile"] for row in rows),
            "found": sum(row["iou"] >= IOU for row in rows),
            "once": sum(row["masks"] == 1 for row in rows),
            "twice": sum(row["masks"] > 1 for row in rows),
            "least_iou": min(row["iou"] for row in rows),
            "records": len(labelled.records),
            "decoded": labelled.prompts_decoded,
            "masks_dropped": labelled.masks_dropped,
            "seconds": seconds,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        }
        print(f"{hw[1]} x {hw[0]}, {ground}: " + ", ".join(f"{k} {v}" for k, v in results[ground].items()), flush=True)
        for row in bad:
            print(f"  {row}")
        results[ground]["rows"] = rows
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
