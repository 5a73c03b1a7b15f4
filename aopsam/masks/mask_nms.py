"""Greedy non-maximum suppression by IoU of masks: objects of which only the boxes coincide both stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aopsam.masks.overlap import iou
from aopsam.masks.runs import Ints, Runs


def mask_nms(masks: Sequence[Runs], scores: npt.NDArray[np.floating], iou_threshold: float) -> Ints:
    """Keep a mask unless a better-scored kept mask overlaps it with IoU above the threshold.

    Args:
        masks: N masks of one frame.
        scores: (N,); of equal ones the first goes first.
        iou_threshold: between 0 and 1.

    Returns:
        (K,) indices of the kept masks, by falling score.
    """
    order = np.argsort(-scores, kind="stable")
    repeats = iou([masks[i] for i in order]) > iou_threshold
    alive = np.ones(len(order), bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~repeats[i, i + 1 :]
    return order[alive]
