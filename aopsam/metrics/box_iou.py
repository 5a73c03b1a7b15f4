"""IoU of boxes, as pycocotools computes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


def box_iou_matrix(predicted_xyxy: NDArray[np.floating], truth_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the IoU of every predicted box with every ground-truth box.

    Args:
        predicted_xyxy: (P, 4) corners, in any one unit.
        truth_xyxy: (G, 4), the same.

    Returns:
        (P, G) in [0, 1], for `average_recall` among others.
    """
    if not len(predicted_xyxy) or not len(truth_xyxy):
        return np.zeros((len(predicted_xyxy), len(truth_xyxy)))
    predicted, truth = (_xywh(np.asarray(boxes, np.float64)) for boxes in (predicted_xyxy, truth_xyxy))
    return np.asarray(coco_mask.iou(predicted, truth, [0] * len(truth)), np.float64)


def _xywh(boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
