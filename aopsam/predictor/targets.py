"""Make the predictor's training targets: maps that are high where a point prompt belongs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d

from aopsam.predictor.frame import FRAME_SIZE, content_hw
from aopsam.predictor.kernels import Combine


@lru_cache(maxsize=512)
def _profile(box: int, sigma: float) -> np.ndarray:
    """Return one axis of the separable kernel: uniform of `box`, then Gaussian, peak 1; odd length."""
    radius = box // 2 + int(np.ceil(4 * sigma))
    impulse = np.zeros(2 * radius + 1)
    impulse[radius - box // 2 : radius + box // 2 + 1] = 1.0
    profile = gaussian_filter1d(impulse, sigma, mode="constant", truncate=4.0) if sigma > 0 else impulse
    return profile / profile.max()


def prompt_map(
    points_px: np.ndarray,
    image_hw: tuple[int, int],
    size: int = FRAME_SIZE,
    box: int = 3,
    sigma: float = 2.0,
    combine: Combine = "max",
    sigmas: np.ndarray | None = None,
    peaks: np.ndarray | None = None,
    stretched: bool = False,
) -> np.ndarray:
    """Make a prompt map: an impulse per point, smoothed by a uniform k×k box and then a Gaussian.

    Chen et al. 2025 (AoP-SAM), "Training and inference". Scaled so that an isolated prompt peaks at exactly 1.

    Args:
        points_px: (N, 2) XY, original pixels; inside the photo.
        image_hw: rows and columns of the original photo.
        size: side of the frame.
        box: k, side of the uniform kernel, frame pixels; odd.
        sigma: deviation of the Gaussian, frame pixels.
        combine: overlapping kernels take their maximum, or (as the paper's text says) their sum, clipped at 1.
        sigmas: (N,) deviation of every point, in place of `sigma`.
        peaks: (N,) height of every point's kernel, in [0, 1]; 1 by default.
        stretched: whether the photo fills the frame; else its long side does. Kernels are round in the frame.

    Returns:
        (size, size) float32 in [0, 1].

    Raises:
        ValueError: points of another shape or outside the photo, an even box, an unknown `combine`.
    """
    points_px = np.asarray(points_px, np.float64)
    if points_px.ndim != 2 or points_px.shape[1] != 2:
        raise ValueError(f"points_px has shape {points_px.shape}, expected (N, 2)")
    if box < 1 or box % 2 == 0:
        raise ValueError(f"box is {box}, expected an odd number of pixels")
    if combine not in ("max", "sum"):
        raise ValueError(f"combine is {combine!r}, expected 'max' or 'sum'")
    height, width = image_hw
    if len(points_px) and not ((points_px >= 0).all() and (points_px < (width, height)).all()):
        raise ValueError(f"a point lies outside the photo of {width}×{height} px")
    rows, columns = content_hw(image_hw, size, stretched=stretched)
    cells = (points_px * (columns / width, rows / height)).astype(np.int64)
    cells = np.minimum(cells, (columns - 1, rows - 1))
    # Rounded so that few different kernels occur, which are cached.
    deviations = np.full(len(cells), sigma) if sigmas is None else np.round(np.asarray(sigmas, np.float64), 1)
    heights = np.ones(len(cells)) if peaks is None else np.asarray(peaks, np.float64)
    result = np.zeros((size, size))
    for (x, y), deviation, peak in zip(cells, deviations, heights, strict=True):
        profile = _profile(box, float(deviation))
        radius = len(profile) // 2
        x0, x1 = max(0, x - radius), min(size, x + radius + 1)
        y0, y1 = max(0, y - radius), min(size, y + radius + 1)
        patch = peak * np.outer(profile[y0 - y + radius : y1 - y + radius], profile[x0 - x + radius : x1 - x + radius])
        window = result[y0:y1, x0:x1]
        window[:] = np.maximum(window, patch) if combine == "max" else window + patch
    return np.minimum(result, 1.0).astype(np.float32)


def merge_points(points_px: np.ndarray, areas_px2: np.ndarray, radius_px: float) -> np.ndarray:
    """Merge points where several annotators marked the same object, and return those to keep.

    Points within `radius_px` of each other whose masks differ in area by less than a factor of two are one prompt;
    the first one is kept. Near points of very different masks (a button, the shirt) are all kept.

    Args:
        points_px: (N, 2) XY.
        areas_px2: (N,) areas of the points' masks.
        radius_px: distance below which points may be merged.

    Returns:
        (K,) int64, ascending indices of the kept points.
    """
    kept: list[int] = []
    for index, (point, area) in enumerate(zip(points_px, areas_px2, strict=True)):
        near = [
            other
            for other in kept
            if np.hypot(*(points_px[other] - point)) < radius_px and 0.5 < areas_px2[other] / area < 2
        ]
        if not near:
            kept.append(index)
    return np.array(kept, np.int64)
