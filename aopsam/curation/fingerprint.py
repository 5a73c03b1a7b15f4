"""Make fingerprints of photos, small grey thumbnails, and the detail vectors by which they are compared.

Means over the cells of a fixed grid hardly change with image size or JPEG quality. Subtracting their blur keeps edges
and removes flat areas, skies and vignettes, in which photos of different things agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 32
"""Cells along a side of the thumbnail, for any aspect ratio."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of R, G and B in luminance (ITU-R BT.601)."""
_SIGMA = 1.0
"""Deviation of the blur, in cells of the grid that it is applied to."""
_FLAT = 0.02
"""Root mean square of detail, in grey levels, below which it is rounding error and counts as none."""


def fingerprint(rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return the mean luminance of the cells of a `SIDE` × `SIDE` grid, less the mean of all cells.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (SIDE, SIDE) float16, grey levels.
    """
    grey = Image.fromarray(rgb.astype(np.float32) @ _LUMA)
    cells = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    return (cells - cells.mean()).astype(np.float16)


def mirrored(fingerprints: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return the fingerprints of the mirrored photos, (N, SIDE, SIDE)."""
    return fingerprints[:, :, ::-1]


def coarse_detail(fingerprints: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return (N, 144) unit vectors of a grid of half the side, for the search; their products are correlations."""
    cells = fingerprints.astype(np.float32).reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    return _detail(cells, border=2)


def fine_detail(fingerprints: NDArray[np.float16]) -> NDArray[np.float32]:
    """Return (N, 676) unit vectors of the whole grid, for the decision; all zeros for a photo without detail."""
    return _detail(fingerprints.astype(np.float32), border=3)


def _detail(cells: NDArray[np.float32], border: int) -> NDArray[np.float32]:
    """Subtract the blur from cells, cut off the border where it lacks neighbours, and scale to mean 0 and length 1."""
    detail = cells - gaussian_filter(cells, _SIGMA, axes=(1, 2), mode="nearest")
    flat = detail[:, border:-border, border:-border].reshape(len(cells), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > _FLAT * np.sqrt(flat.shape[1]), flat / np.maximum(length, 1e-9), 0)
