"""Remove small islands of a mask and fill its small holes."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from aopsam.masks import rle
from aopsam.masks.runs import Runs

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def clean(mask: Runs, min_area_px: float) -> tuple[Runs, bool]:
    """Run `remove_small_regions` on a mask's box alone, with a rim so wide that no small region reaches beyond it."""
    rim = math.ceil(min_area_px)
    x0, y0, x1, y1 = mask.box_xyxy_px
    left, top = max(x0 - rim, 0), max(y0 - rim, 0)
    shown = mask.within(left, top, min(x1 + 1 + rim, mask.hw[1]), min(y1 + 1 + rim, mask.hw[0]))
    cleaned, changed = remove_small_regions(rle.decode(rle.from_runs(shown)), min_area_px)
    return (Runs.of_mask(cleaned).placed(left, top, mask.hw) if changed else mask), changed


def remove_small_regions(mask: np.ndarray, min_area_px: float) -> tuple[np.ndarray, bool]:
    """Fill holes, then drop islands, of fewer than `min_area_px` pixels, on 8-connected components.

    If every island is small the largest stays, as in segment-anything's `remove_small_regions`.

    Args:
        mask: (H, W) bool.
        min_area_px: px².

    Returns:
        The cleaned mask (H, W) bool, and whether there was any small region: also where it is all there is and stays.
    """
    holes, small_holes = _small_regions(~mask, min_area_px)
    filled = mask | small_holes[holes]
    islands, small_islands = _small_regions(filled, min_area_px)
    sizes = np.bincount(islands.ravel(), minlength=len(small_islands))
    keep = ~small_islands
    keep[0] = False
    if len(keep) > 1 and not keep.any():
        keep[1 + int(sizes[1:].argmax())] = True
    return keep[islands], bool(small_holes.any() or small_islands.any())


def _small_regions(mask: np.ndarray, min_area_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of each pixel (0 outside the mask), and for each label whether its region is small."""
    labels, count = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    small = np.bincount(labels.ravel(), minlength=count + 1) < min_area_px
    small[0] = False
    return labels, small
