"""Measure what can be had without learning: the floors that a promptable model must clear.

    python benchmarks/floor.py --data bsds500/val/000000.tar coco/val/000000.tar

For each ground-truth mask one prompt, the best of three answers by true IoU, mean over all masks of a shard:
Felzenszwalb's segmentation at three scales (the segment under the interior point), three plain discs around the
interior point, and for boxes the inscribed ellipse, the box itself and their intersection with the middle scale.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb

from aopsam.masks import rle
from aopsam.training.annotated import Annotated, load_photos

SCALES = (50, 200, 800)
RADII = (0.02, 0.06, 0.18)
"""Radii of the discs, relative to the photo's longer side."""

Masks = NDArray[np.bool_]


def answers(photo: Annotated, index: int, segmentations: list[NDArray[np.int64]]) -> dict[str, list[Masks]]:
    """Return the masks (H, W), at most three, of each floor for one ground-truth mask."""
    height, width = photo.rgb.shape[:2]
    y, x = np.mgrid[:height, :width]
    px, py = photo.points_px[index]
    column, row = min(int(px), width - 1), min(int(py), height - 1)
    segments = [labels == labels[row, column] for labels in segmentations]
    discs = [(x - px) ** 2 + (y - py) ** 2 <= (share * max(height, width)) ** 2 for share in RADII]
    left, top, wide, high = rle.bbox_xywh(photo.rles[index])
    box = (x >= left) & (x < left + wide) & (y >= top) & (y < top + high)
    across, down = (x + 0.5 - left - wide / 2) / (wide / 2), (y + 0.5 - top - high / 2) / (high / 2)
    ellipse = across**2 + down**2 <= 1
    return {
        "point: Felzenszwalb": segments,
        "point: discs": discs,
        "box: ellipse": [ellipse],
        "box: ellipse, box, segment": [ellipse, box, box & segments[1]],
    }


def floors(photos: Sequence[Annotated]) -> dict[str, float]:
    """Return, by floor, the mean over all ground-truth masks of the best answer's IoU."""
    best: dict[str, list[float]] = {}
    for photo in photos:
        segmentations = [felzenszwalb(photo.rgb, scale=s, sigma=0.8, min_size=20) for s in SCALES]
        for index in range(len(photo.rles)):
            truth = rle.decode(photo.rles[index])
            for name, masks in answers(photo, index, segmentations).items():
                ious = [(mask & truth).sum() / (mask | truth).sum() for mask in masks]
                best.setdefault(name, []).append(max(ious))
    return {name: float(np.mean(values)) for name, values in best.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table a shard; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="tars in SA-1B's layout")
    arguments = parser.parse_args(argv)
    for shard in arguments.data:
        try:
            photos = load_photos([shard])
        except (ValueError, OSError) as error:
            print(f"floor: {shard}: {error}", file=sys.stderr)
            return 2
        print(f"{shard}: {len(photos)} photos, {sum(len(p.rles) for p in photos)} masks")
        for name, value in floors(photos).items():
            print(f"  {name:<28} {value:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
