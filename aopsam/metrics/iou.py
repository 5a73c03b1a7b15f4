"""Intersection over union of every predicted mask with every ground-truth mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Masks = NDArray[np.bool_] | Sequence[Mapping[str, Any]]
"""Either a stack (N, H, W) bool, or N COCO compressed RLEs (`size` [h, w], `counts` str or bytes)."""


def iou_matrix(predicted: Masks, ground_truth: Masks) -> NDArray[np.float64]:
    """Compute the IoU of each of P predicted masks with each of G ground-truth masks, by pycocotools on RLEs.

    No mask is treated as a crowd. Two empty masks have IoU 0.

    Args:
        predicted: P masks, as a bool stack (P, H, W) or a list of COCO compressed RLEs.
        ground_truth: G masks of the same size, likewise.

    Returns:
        (P, G) float64 in [0, 1]; (0, G) or (P, 0) where a side is empty.

    Raises:
        ValueError: a stack is not (N, H, W) bool, or two masks differ in size.
    """
    rows, columns = _rles(predicted, "predicted"), _rles(ground_truth, "ground_truth")
    sizes = {tuple(rle["size"]) for rle in [*rows, *columns]}
    if len(sizes) > 1:
        listed = ", ".join(str(list(size)) for size in sorted(sizes)[:3])
        raise ValueError(f"masks of different sizes [h, w] cannot be compared: {listed}")
    if not rows or not columns:
        return np.zeros((len(rows), len(columns)))
    return np.asarray(coco_mask.iou(rows, columns, [0] * len(columns)), dtype=np.float64)


def checked_shape(iou: NDArray[np.float64]) -> tuple[int, int]:
    """Return (P, G) of an IoU matrix.

    Raises:
        ValueError: it is not a matrix of numbers in [0, 1].
    """
    if iou.ndim != 2 or not bool(((iou >= 0) & (iou <= 1)).all()):
        raise ValueError(f"expected an IoU matrix (predicted, ground truth) in [0, 1], got shape {iou.shape}")
    return iou.shape


def _rles(masks: Masks, name: str) -> list[Any]:
    if not isinstance(masks, np.ndarray):
        return list(masks)
    if masks.ndim != 3 or masks.dtype != np.bool_:
        raise ValueError(f"{name}: expected a stack (N, H, W) of bool, got {masks.shape} of {masks.dtype}")
    if not len(masks):
        return []
    return list(coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))))
