"""Boundary F: how well the outlines of masks agree, of which IoU shows little."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from aopsam.masks import rle
from aopsam.metrics.comparison import Comparison

TOLERANCE = 0.0075
"""Share of the photo's diagonal within which two boundaries meet (BSDS500's `maxDist`)."""


def boundary_f(comparison: Comparison) -> float | None:
    """Compute the mean over ground-truth masks of the boundary F with the prediction of the highest IoU.

    A ground-truth mask that no prediction overlaps counts 0.

    F = 2PR / (P + R) as in DAVIS (Perazzi et al., 2016): P is the share of the predicted boundary's pixels that lie
    within the tolerance of the true boundary, R the converse. The tolerance is BSDS500's (Arbeláez et al., 2011).

    Returns:
        In [0, 1]; None without ground truth.
    """
    if not comparison.truths:
        return None
    if not comparison.predicted:
        return 0.0
    iou = comparison.iou
    pairs = [(truth, int(iou[:, column].argmax()), column) for column, truth in enumerate(comparison.truths)]
    scores = [
        mask_boundary_f(comparison.predicted[row], truth) if iou[row, column] > 0 else 0.0
        for truth, row, column in pairs
    ]
    return float(np.mean(scores))


def mask_boundary_f(predicted: Mapping[str, Any], truth: Mapping[str, Any]) -> float:
    """Compute F of two masks' boundaries, RLEs of one photo; 1 where neither has any, 0 where one has none."""
    ours, theirs = boundary_pixels(predicted), boundary_pixels(truth)
    if not len(ours) or not len(theirs):
        return float(len(ours) == len(theirs))
    reach = TOLERANCE * math.hypot(*truth["size"])
    precision = _share_near(ours, theirs, reach)
    recall = _share_near(theirs, ours, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_pixels(mask: Mapping[str, Any]) -> NDArray[np.int64]:
    """Find the mask's pixels that have a pixel outside it above, below, left or right: (N, 2) row and column.

    The photo's own edge is no boundary.
    """
    filled = rle.decode(mask)
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not len(rows):
        return np.zeros((0, 2), np.int64)
    # One pixel around the mask is enough, and the photo may be large.
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
    padded = np.pad(filled[top : rows[-1] + 2, left : columns[-1] + 2], 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(padded[1:-1, 1:-1] & ~inside) + np.array([top, left])


def _share_near(points: NDArray[np.int64], others: NDArray[np.int64], reach: float) -> float:
    """Compute the share of the points that have one of the others within `reach` pixels."""
    distance, _ = KDTree(others).query(points, distance_upper_bound=np.nextafter(reach, math.inf))
    return float(np.isfinite(distance).mean())
