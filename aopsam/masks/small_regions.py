"""Remove small islands of a mask and fill its small holes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def remove_small_regions(mask: np.ndarray, min_area_px: float) -> tuple[np.ndarray, bool]:
    """Fill holes, then drop islands, of fewer than `min_area_px` pixels, on 8-connected components.

    If every island is small the largest stays, as in segment-anything's `remove_small_regions`.

    Args:
        mask: (H, W) bool.
        min_area_px: px².

    Returns:
        The cleaned mask (H, W) bool, and whether anything changed.
    """
    labels, count = ndimage.label(~mask, _EIGHT_NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    small = (sizes < min_area_px) & (np.arange(count + 1) > 0)
    filled = mask | small[labels]

    labels, count = ndimage.label(filled, _EIGHT_NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = (sizes >= min_area_px) & (np.arange(count + 1) > 0)
    if count and not keep.any():
        keep[1 + int(sizes[1:].argmax())] = True
    cleaned = keep[labels]
    return cleaned, bool((cleaned != mask).any())
