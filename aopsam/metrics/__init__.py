"""Pure functions that compare predicted masks with ground truth; a photo that leaves one undefined yields None."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.bootstrap import Estimate, mean_interval, paired_difference, weighted_mean
from aopsam.metrics.correlation import pearson, spearman
from aopsam.metrics.greedy import iou_one_to_one, iou_per_ground_truth, iou_per_prediction
from aopsam.metrics.iou import Masks, iou_matrix

METRICS: dict[str, Callable[[NDArray[np.float64]], float | None]] = {
    "miou": iou_per_ground_truth,
    "miou_per_prediction": iou_per_prediction,
    "miou_one_to_one": iou_one_to_one,
    **{f"ar_{most}": partial(average_recall, most=most) for most in (10, 100, 1000)},
}
"""Name of a metric → its function of one photo's IoU matrix (predicted, ground truth), best-ranked prediction first."""

__all__ = [
    "METRICS",
    "Estimate",
    "Masks",
    "average_recall",
    "iou_matrix",
    "iou_one_to_one",
    "iou_per_ground_truth",
    "iou_per_prediction",
    "mean_interval",
    "paired_difference",
    "pearson",
    "spearman",
    "weighted_mean",
]
