"""Pure functions that compare predicted masks with ground truth; a photo that leaves one undefined yields None."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aopsam.metrics.average_precision import AveragePrecision, Ranked, rank
from aopsam.metrics.average_recall import average_recall
from aopsam.metrics.bootstrap import Estimate, mean_interval, paired_difference, resampled, spread, weighted_mean
from aopsam.metrics.boundary import boundary_f
from aopsam.metrics.comparison import SIZES, Comparison
from aopsam.metrics.correlation import pearson, spearman
from aopsam.metrics.greedy import iou_one_to_one, iou_per_ground_truth, iou_per_prediction
from aopsam.metrics.iou import Masks, iou_matrix


@dataclass(frozen=True)
class Metric:
    """A metric of one photo.

    Attributes:
        of: function that computes it from one photo's comparison; None where it is undefined.
        per: the count that turns its mean over photos into a mean over masks: `ground_truths`, those of a size
            (`small_truths` and so on), or `masks_kept`.
    """

    of: Callable[[Comparison], float | None]
    per: str = "ground_truths"


def _recall(most: int, size: str | None = None) -> Metric:
    def of(comparison: Comparison) -> float | None:
        return average_recall(comparison.iou[:, comparison.truths_of(size)], most)

    return Metric(of, "ground_truths" if size is None else f"{size}_truths")


METRICS: dict[str, Metric] = {
    "miou": Metric(lambda comparison: iou_per_ground_truth(comparison.iou)),
    "miou_per_prediction": Metric(lambda comparison: iou_per_prediction(comparison.iou), "masks_kept"),
    "miou_one_to_one": Metric(lambda comparison: iou_one_to_one(comparison.iou)),
    "boundary_f": Metric(boundary_f),
    **{f"ar_{most}": _recall(most) for most in (10, 100, 1000)},
    **{f"ar_{most}_{size}": _recall(most, size) for most in (10, 100, 1000) for size in SIZES},
}
"""Name → metric of one photo."""
PRECISIONS: dict[str, str | None] = {"ap": None} | {f"ap_{size}": size for size in SIZES}
"""Name of an average precision, computed over a set of photos and not as a mean over them → size of its masks."""

__all__ = [
    "METRICS",
    "PRECISIONS",
    "SIZES",
    "AveragePrecision",
    "Comparison",
    "Estimate",
    "Masks",
    "Metric",
    "Ranked",
    "average_recall",
    "boundary_f",
    "iou_matrix",
    "iou_one_to_one",
    "iou_per_ground_truth",
    "iou_per_prediction",
    "mean_interval",
    "paired_difference",
    "pearson",
    "rank",
    "resampled",
    "spearman",
    "spread",
    "weighted_mean",
]
