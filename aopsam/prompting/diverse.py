"""Rule `diverse` of `aop`: confident places whose features are unlike those of the places already chosen.

The paper drops a prompt that resembles the masks decoded so far, wherever it lies, and only ever among the peaks of
the map. Here the centres of a detector's boxes are candidates too (Zhang et al. 2023, MobileSAMv2), and a prompt chosen
takes value from what lies near it and resembles it in SAM's embedding, before anything is decoded: all prompts are one
batch, and as many as asked for.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

REACH = 3 / 16
"""Distance at which a prompt chosen takes less from a place with equal features, shares of the long side."""
TOLERANCE = 1 / 8
"""Difference in the embedding at which it takes less, shares of the mean difference of two places of the photo."""


def with_centers(
    confidence: np.ndarray, peaks: np.ndarray, values: np.ndarray, centers: np.ndarray, smoothing_sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the peaks of the map and the centres of boxes.

    Peaks alone are few, and the next best places beside a peak are its own slopes, where objects end and prompts are
    poor. A grid's points in place of the centres, or beside them, find less (benchmarks/LOG.md).

    Args:
        confidence: (h, w) float, the prompt confidence map of the photo without padding.
        peaks: (N, 2) XY cells of the map.
        values: (N,) float32, their smoothed confidence.
        centers: (M, 2) XY in shares of the photo's width and height, 0 to 1.
        smoothing_sigma: of the Gaussian filter, cells of the map.

    Returns:
        Places (N + M, 2) float64 as XY cells of the map, and their smoothed confidence (N + M,) float32.
    """
    smooth = ndimage.gaussian_filter(np.asarray(confidence, np.float32), smoothing_sigma)
    points = centers * smooth.shape[::-1]
    column, row = np.minimum(points.astype(np.int64), np.array(smooth.shape[::-1]) - 1).T
    return np.concatenate([peaks, points - 0.5]), np.concatenate([values, smooth[row, column]])


def diverse_order(
    confidence: torch.Tensor, places: torch.Tensor, features: torch.Tensor, *, most: int, least_value: float
) -> torch.Tensor:
    """Choose places one by one, each time the one of most value.

    The value of a place p is its confidence, times 1 - k(p, q) for each place q chosen before, with
    k = exp(-d² / 2·REACH²) · exp(-e² / (TOLERANCE · m)): d is the distance of the two places, e that of their unit
    embeddings, m the mean of e² over all pairs of the photo, which makes one constant do for encoders whose cells are
    all much alike and for those whose are not.

    Args:
        confidence: (N,) float32, not negative.
        places: (N, 2) float32 XY, in shares of the photo's long side.
        features: (N, C) float32, SAM's embedding at the places, L2-normalised.
        most: places chosen at most.
        least_value: of a place that is chosen; choosing ends where none is above it.

    Returns:
        Indices (n,) int64 in the order chosen, on the CPU.
    """
    spread = 2 - 2 * features.mean(dim=0).square().sum()
    value = confidence.clone()
    chosen: list[int] = []
    while len(chosen) < min(most, len(value)):
        best = int(value.argmax())
        if not value[best] > least_value:
            break
        chosen.append(best)
        distance = (places - places[best]).square().sum(dim=1)
        difference = (2 - 2 * features @ features[best]).clamp(min=0)
        taken = torch.exp(-distance / (2 * REACH**2) - difference / (TOLERANCE * spread).clamp(min=1e-6))
        value = value * (1 - taken)
        value[best] = -torch.inf
    return torch.tensor(chosen, dtype=torch.int64)
