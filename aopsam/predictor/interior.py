"""Find the point deepest inside a mask."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

_WORKING_SIDE = 160  # pixels; deep points need no more, and the transform of a whole photo takes 50 times as long


def interior_point(mask: np.ndarray) -> tuple[float, float]:
    """Return the maximum of the mask's distance transform; the photo's edge counts as the mask's border.

    Masks whose box is longer than 160 px are sampled at every second, third, … pixel.

    Args:
        mask: (H, W) bool.

    Returns:
        x, y of a pixel of the mask; of equally deep ones the first in row order.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("an empty mask has no interior point")
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    step = -(-max(crop.shape) // _WORKING_SIDE)
    small = crop[::step, ::step]
    if not small.any():  # thinner than the step
        small, step = crop, 1
    depth = distance_transform_edt(np.pad(small, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(left + x * step), float(top + y * step)
