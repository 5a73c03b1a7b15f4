"""COCO's average precision, class-agnostic: predictions matched photo by photo, then one curve for the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam.metrics.average_recall import THRESHOLDS
from aopsam.metrics.comparison import Comparison

MOST = 100
"""Most predictions of a photo that count, the best-ranked (COCO's `maxDets`)."""
RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads the precision off the curve."""


@dataclass(frozen=True)
class Ranked:
    """Matches of D predictions of one photo at each of `THRESHOLDS`, best-ranked first.

    Attributes:
        scores: (D,) float64, falling.
        found: (D, 10) bool: the prediction has a ground-truth mask of its own.
        ignored: (D, 10) bool: it counts neither as right nor as wrong, as it lies on a crowd or is of another size.
        ground_truths: number of masks to find.
    """

    scores: NDArray[np.float64]
    found: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    ground_truths: int


def rank(comparison: Comparison, size: str | None = None, most: int = MOST) -> Ranked:
    """Match the predictions of one photo as pycocotools' `COCOeval.evaluateImg` does with `useCats=0`.

    At each threshold predictions go by rank; each takes the free ground-truth mask with the highest IoU, at or above
    the threshold, of equal ones the last; failing that, a mask of another size or a crowd, which ignores it. A
    prediction of another size that found nothing is ignored, too.

    Args:
        comparison: the photo's masks; scores must be falling.
        size: name of one of `SIZES`; None for all.
        most: most predictions that count.

    Raises:
        ValueError: not one score a prediction, or they are not falling.
    """
    scores = np.asarray(comparison.scores, np.float64)
    if scores.shape != (len(comparison.predicted),) or bool((np.diff(scores) > 0).any()):
        raise ValueError(f"predictions need one score each, best first: {len(comparison.predicted)} masks, {scores}")
    counted = min(most, len(scores))
    wanted = comparison.truths_of(size)
    iou = comparison.iou[:counted]
    # In COCOeval's order: what counts, then what is ignored, where crowds come last in our data.
    sought = iou[:, wanted]
    excused = np.concatenate([iou[:, ~wanted], comparison.in_crowd[:counted]], axis=1)
    can_repeat = np.arange(excused.shape[1]) >= int((~wanted).sum())
    found = np.zeros((counted, len(THRESHOLDS)), bool)
    ignored = np.zeros_like(found)
    for column, threshold in enumerate(THRESHOLDS):
        taken, used = np.zeros(sought.shape[1], bool), np.zeros(excused.shape[1], bool)
        for row in range(counted):
            place = _best(sought[row], taken, threshold)
            if place is not None:
                taken[place] = found[row, column] = True
                continue
            place = _best(excused[row], used & ~can_repeat, threshold)
            if place is not None:
                used[place] = ignored[row, column] = True
    of_other_size = ~comparison.predictions_of(size)[:counted, None]
    return Ranked(scores[:counted], found, ignored | (of_other_size & ~found), int(wanted.sum()))


def _best(overlap: NDArray[np.float64], gone: NDArray[np.bool_], threshold: float) -> int | None:
    """Return the index of the last of the highest overlaps that are not gone and reach the threshold, or None."""
    if not len(overlap):
        return None
    free = np.where(gone, -1.0, overlap)
    place = len(free) - 1 - int(free[::-1].argmax())
    return place if free[place] >= threshold else None


class AveragePrecision:
    """AP of a set of photos, each with its own count (for a bootstrap over photos)."""

    def __init__(self, photos: Sequence[Ranked]) -> None:
        """Order all predictions of N photos by score; of equal scores the earlier photo's goes first."""
        self.truths = np.array([photo.ground_truths for photo in photos], np.float64)
        scores = np.concatenate([np.zeros(0), *(photo.scores for photo in photos)])
        order = np.argsort(-scores, kind="stable")
        self.photo = np.repeat(np.arange(len(photos)), [len(photo.scores) for photo in photos])[order]
        none = np.zeros((0, len(THRESHOLDS)), bool)
        found = np.concatenate([none, *(photo.found for photo in photos)])[order]
        ignored = np.concatenate([none, *(photo.ignored for photo in photos)])[order]
        self.right = (found & ~ignored).T.astype(np.float64)
        self.wrong = (~found & ~ignored).T.astype(np.float64)

    def __call__(self, times: NDArray[np.integer] | None = None) -> float:
        """Compute the mean precision over `RECALLS` and `THRESHOLDS`, on the upper envelope of the curve.

        As pycocotools' `COCOeval.accumulate` and `summarize`.

        Args:
            times: (N,) how often each photo counts; once by default.

        Returns:
            In [0, 1]; NaN without ground truth.
        """
        weights = np.ones(len(self.truths)) if times is None else np.asarray(times, np.float64)
        truths = float(self.truths @ weights)
        if not truths:
            return float("nan")
        right = np.cumsum(self.right * weights[self.photo], axis=1)
        wrong = np.cumsum(self.wrong * weights[self.photo], axis=1)
        precision = right / (right + wrong + np.spacing(1))
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        total = 0.0
        for recalled, precise in zip(right / truths, precision, strict=True):
            places = np.searchsorted(recalled, RECALLS, side="left")
            total += float(precise[places[places < len(precise)]].sum())
        return total / (len(THRESHOLDS) * len(RECALLS))
