"""One photo's predicted masks and its ground truth, from which every metric is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from aopsam.masks import rle
from aopsam.metrics.iou import iou_matrix

SIZES: dict[str, tuple[float, float]] = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""COCO's sizes: smallest and largest area in pixels of the photo, both included."""


@dataclass(frozen=True)
class Comparison:
    """P predictions, best-ranked first, and G ground-truth masks of one photo, all COCO compressed RLEs of its size.

    Attributes:
        predicted: P masks.
        truths: G masks, one an object.
        scores: (P,) falling; what ranks the predictions of different photos among each other.
        declared_areas: (G,) px², by which the ground truth's sizes go; None for the masks' own.
        crowds: masks of many objects that are not told apart; what lies on them is no wrong prediction.
    """

    predicted: Sequence[Mapping[str, Any]]
    truths: Sequence[Mapping[str, Any]]
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    declared_areas: NDArray[np.float64] | None = None
    crowds: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def iou(self) -> NDArray[np.float64]:
        """IoU of each prediction with each ground-truth mask, (P, G)."""
        return iou_matrix(self.predicted, self.truths)

    @cached_property
    def in_crowd(self) -> NDArray[np.float64]:
        """Share of each prediction that lies on each crowd, COCO's overlap with one: (P, crowds)."""
        if not self.predicted or not self.crowds:
            return np.zeros((len(self.predicted), len(self.crowds)))
        return np.asarray(coco_mask.iou(list(self.predicted), list(self.crowds), [1] * len(self.crowds)), np.float64)

    def truths_of(self, size: str | None) -> NDArray[np.bool_]:
        """Return which ground-truth masks are of a size of `SIZES`, (G,); None for all."""
        return _within(self._truth_areas, size)

    def predictions_of(self, size: str | None) -> NDArray[np.bool_]:
        """Return which predictions are of a size of `SIZES`, (P,); None for all."""
        return _within(self._predicted_areas, size)

    @cached_property
    def _truth_areas(self) -> NDArray[np.float64]:
        return _areas(self.truths) if self.declared_areas is None else self.declared_areas

    @cached_property
    def _predicted_areas(self) -> NDArray[np.float64]:
        return _areas(self.predicted)


def _areas(masks: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    # One by one: pycocotools 2.0.11 fails on lists of more than 255.
    return np.array([rle.area(mask) for mask in masks], np.float64)


def _within(areas: NDArray[np.float64], size: str | None) -> NDArray[np.bool_]:
    low, high = (0.0, 1e10) if size is None else SIZES[size]
    return np.asarray((areas >= low) & (areas <= high))
