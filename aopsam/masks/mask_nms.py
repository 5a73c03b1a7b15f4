"""Greedy non-maximum suppression by IoU of masks: objects of which only the boxes coincide both stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aopsam.masks import kernels, rle
from aopsam.masks.overlap import areas, shared_pixels
from aopsam.masks.runs import Ints, Runs


def mask_nms(masks: Sequence[Runs], scores: npt.NDArray[np.floating], iou_threshold: float) -> Ints:
    """Keep a mask unless a better-scored kept mask overlaps it with IoU above the threshold.

    Pixels are compared only where areas and boxes leave such an IoU possible: of the thousands of masks of a dense grid
    most pairs are told apart by these alone.

    Args:
        masks: N masks of one frame.
        scores: (N,); of equal ones the first goes first.
        iou_threshold: between 0 and 1.

    Returns:
        (K,) indices of the kept masks, by falling score.
    """
    area = areas(masks)
    order = np.argsort(-scores, kind="stable")
    if masks and (compiled := kernels()) is not None:
        chosen = np.empty(len(order), np.int64)
        return chosen[: compiled.mask_nms(*compiled.joined(masks), area, order, iou_threshold, chosen)]
    boxes = np.array([mask.box_xyxy_px for mask in masks], np.int64).reshape(-1, 4)
    encoded = [rle.from_runs(mask) for mask in masks]
    kept = np.zeros(len(masks), np.int64)
    count = 0
    for i in order.tolist():
        others = kept[:count]
        most = np.minimum(_shared(boxes[i], boxes[others]), np.minimum(area[i], area[others]))
        possible = others[_ratio(most, area[i] + area[others]) > iou_threshold]
        if len(possible):
            shared = shared_pixels([encoded[i]], [encoded[j] for j in possible.tolist()], area[i : i + 1])[0]
            if (_ratio(shared, area[i] + area[possible]) > iou_threshold).any():
                continue
        kept[count] = i
        count += 1
    return kept[:count]


def _shared(box: Ints, boxes: Ints) -> Ints:
    """Return the pixels that a box has in common with each of N, outermost pixels included."""
    left, top = np.maximum(box[:2], boxes[:, :2]).T
    right, bottom = np.minimum(box[2:], boxes[:, 2:]).T
    return np.maximum(right - left + 1, 0) * np.maximum(bottom - top + 1, 0)


def _ratio(shared: Ints, both: Ints) -> npt.NDArray[np.float64]:
    """Return the IoU of masks that share pixels and have `both` together; 0 for two empty ones."""
    return shared / np.maximum(both - shared, 1)
