"""Average recall as COCO's evaluation counts it, class-agnostic, of one photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aopsam.metrics.iou import checked_shape

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU at which a prediction finds a ground-truth mask (COCO's "0.5:0.95")."""


def average_recall(iou: NDArray[np.float64], most: int) -> float | None:
    """Compute the share of the ground-truth masks that the best-ranked predictions find, mean over `THRESHOLDS`.

    As pycocotools' COCOeval with `useCats=0` and `maxDets=most`: at each threshold predictions go by rank, and each
    takes the ground-truth mask with the highest IoU, at or above the threshold, that none before it took; of equal
    IoUs the last. Weighted by the number of ground-truth masks, the mean over photos is COCO's AR of the set. AR of a
    size is that of the matrix with the ground-truth masks of that size alone.

    Args:
        iou: (P predicted, G ground truth) in [0, 1], best-ranked prediction first.
        most: most predictions that count.

    Returns:
        In [0, 1]; None without ground truth.

    Raises:
        ValueError: `iou` is not a matrix of numbers in [0, 1].
    """
    _, ground_truths = checked_shape(iou)
    if not ground_truths:
        return None
    best_ranked = iou[:most]
    found = 0
    for threshold in THRESHOLDS:
        # COCOeval compares with min(threshold, 1 - 1e-10); ours are all below 1.
        taken = np.zeros(ground_truths, dtype=bool)
        for row in best_ranked[(best_ranked >= threshold).any(axis=1)]:
            free = np.where(taken, -1.0, row)
            place = len(free) - 1 - int(free[::-1].argmax())
            taken[place] |= free[place] >= threshold
        found += int(taken.sum())
    return found / (len(THRESHOLDS) * ground_truths)
