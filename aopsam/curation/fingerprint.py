"""A photo as a small grey thumbnail, and what of it is compared: its detail, free of brightness and shading.

Averages over cells of a fixed grid hardly notice another size or JPEG quality. Less their own blur they keep edges and
lose flat ground, skies and vignettes, in which photos of different things agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 32
"""Cells of the thumbnail a side, whatever the photo's shape."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""
_SIGMA = 1.0
"""Of the blur, cells of the grid that it is applied to."""
_FLAT = 0.02
"""Detail below this, root mean square in grey levels, is rounding: the photo has none."""


def fingerprint(rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Mean luminance of the cells of a `SIDE` × `SIDE` grid, less the photo's own.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (SIDE, SIDE) float16, grey levels.
    """
    grey = Image.fromarray(rgb.astype(np.float32) @ _LUMA)
    cells = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    return (cells - cells.mean()).astype(np.float16)


def mirrored(fingerprints: NDArray[np.float16]) -> NDArray[np.float16]:
    """The fingerprints (N, SIDE, SIDE) of the mirrored photos."""
    return fingerprints[:, :, ::-1]


def coarse_detail(fingerprints: NDArray[np.float16]) -> NDArray[np.float32]:
    """(N, 144) unit vectors of a grid of half the cells, to search with; their products are correlations."""
    cells = fingerprints.astype(np.float32).reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
    return _detail(cells, border=2)


def fine_detail(fingerprints: NDArray[np.float16]) -> NDArray[np.float32]:
    """(N, 676) unit vectors of the whole grid, to decide with; a photo without any detail is all zeros."""
    return _detail(fingerprints.astype(np.float32), border=3)


def _detail(cells: NDArray[np.float32], border: int) -> NDArray[np.float32]:
    """Cells less their blur, without the border where the blur lacks neighbours, to mean 0 and length 1."""
    detail = cells - gaussian_filter(cells, _SIGMA, axes=(1, 2), mode="nearest")
    flat = detail[:, border:-border, border:-border].reshape(len(cells), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > _FLAT * np.sqrt(flat.shape[1]), flat / np.maximum(length, 1e-9), 0)
