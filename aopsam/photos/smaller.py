"""Make photos smaller."""

from __future__ import annotations

import numpy as np
from PIL import Image


def at_most(rgb: np.ndarray, longest_px: int) -> np.ndarray:
    """Return a photo (H, W, 3) uint8, made smaller by averaging where its longer side has more than `longest_px`."""
    share = longest_px / max(rgb.shape[:2])
    if share >= 1:
        return rgb
    size = max(1, round(rgb.shape[1] * share)), max(1, round(rgb.shape[0] * share))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
