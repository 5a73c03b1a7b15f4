"""Areas, intersections and IoU of masks: exact, from their runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from aopsam.masks import kernels, rle
from aopsam.masks.runs import Ints, Runs


def areas(masks: Sequence[Runs]) -> Ints:
    """Return the pixels of each of N masks, (N,)."""
    return np.array([mask.area for mask in masks], np.int64)


def intersections(masks: Sequence[Runs], others: Sequence[Runs]) -> Ints:
    """Count the pixels that each of N masks shares with each of M others, all of one frame: (N, M).

    pycocotools walks through the runs of those pairs whose boxes overlap.
    """
    if not masks or not others:
        return np.zeros((len(masks), len(others)), np.int64)
    if (compiled := kernels()) is not None:
        alike = masks is others
        joined = compiled.joined(masks)
        return compiled.intersections(*joined, *(joined if alike else compiled.joined(others)), alike)
    rows, columns = ([rle.from_runs(mask) for mask in side] for side in (masks, others))
    return shared_pixels(rows, columns, areas(masks))


def shared_pixels(rows: Sequence[Any], columns: Sequence[Any], area: Ints) -> Ints:
    """Count the pixels that N masks of these areas share with M others, all COCO RLEs and some of each: (N, M)."""
    # Against a crowd, COCO's IoU is the intersection over the mask's own area.
    shares = np.asarray(coco.iou(rows, columns, [1] * len(columns)))
    return np.rint(shares * area[:, None]).astype(np.int64)


def iou(masks: Sequence[Runs]) -> npt.NDArray[np.float64]:
    """Compute the intersection over union of N masks with each other, (N, N); 0 for two empty ones."""
    shared, area = intersections(masks, masks), areas(masks)
    union = area[:, None] + area - shared
    return shared / np.maximum(union, 1)


def agreement(masks: Sequence[Runs], least_iou: float = 0.8) -> Ints:
    """Count for each of N masks those nearly the same, itself included, (N,): what many prompts find is an object."""
    return np.maximum((iou(masks) >= least_iou).sum(axis=1), 1)
