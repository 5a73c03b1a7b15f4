"""From annotated masks of a photo to objects in the predictor's working frame, which a detector learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aopsam.masks import rle
from aopsam.metrics.iou import iou_matrix
from aopsam.predictor.frame import FRAME_SIZE

REPEAT_IOU = 0.9
"""IoU above which two masks are one object, drawn by several annotators."""


@dataclass(frozen=True)
class FrameObjects:
    """N objects in a frame of S = `FRAME_SIZE` pixels.

    Attributes:
        boxes_xyxy_px: (N, 4) float32, frame pixels; far edges lie past the last pixel.
        masks: (N, S, S) bool, False in the padding.
    """

    boxes_xyxy_px: np.ndarray
    masks: np.ndarray

    def mirrored(self, columns: int) -> FrameObjects:
        """Return the objects of the mirrored photo, which fills the first `columns` of the frame."""
        boxes, masks = self.boxes_xyxy_px.copy(), np.zeros_like(self.masks)
        boxes[:, [0, 2]] = columns - self.boxes_xyxy_px[:, [2, 0]]
        masks[:, :, :columns] = self.masks[:, :, :columns][:, :, ::-1]
        return FrameObjects(boxes, masks)

    def columns(self) -> dict[str, Any]:
        """Return `boxes` and `masks` of schemas/prompt_maps.py."""
        return {"boxes": self.boxes_xyxy_px.tolist(), "masks": [rle.encode(mask) for mask in self.masks]}

    @classmethod
    def from_columns(cls, boxes: Sequence[Sequence[float]], masks: Sequence[Mapping[str, Any]]) -> FrameObjects:
        """Restore the objects from the values that `columns` returned."""
        decoded = np.zeros((len(masks), FRAME_SIZE, FRAME_SIZE), bool)
        for place, mask in enumerate(masks):
            decoded[place] = rle.decode(mask)
        return cls(np.array(boxes, np.float32).reshape(-1, 4), decoded)


def box_in_frame(mask: np.ndarray, content: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the XYXY box in frame pixels of a mask that is not empty, taken before it is shrunk.

    Args:
        mask: (H, W) bool.
        content: rows and columns of the frame that show the photo.
    """
    height, width = mask.shape
    rows, columns = content
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    scale_x, scale_y = columns / width, rows / height
    return xs[0] * scale_x, ys[0] * scale_y, (xs[-1] + 1) * scale_x, (ys[-1] + 1) * scale_y


def mask_in_frame(mask: np.ndarray, inside_xy_px: tuple[float, float], content: tuple[int, int]) -> np.ndarray:
    """Bring a mask into the frame: each pixel takes the photo's pixel at its centre.

    Args:
        mask: (H, W) bool.
        inside_xy_px: a point of the mask; where the mask falls between the frame's pixels, this one's pixel is set.
        content: rows and columns of the frame that show the photo.

    Returns:
        (S, S) bool.
    """
    height, width = mask.shape
    rows, columns = content
    at_rows = ((np.arange(rows) + 0.5) * height / rows).astype(int)
    at_columns = ((np.arange(columns) + 0.5) * width / columns).astype(int)
    in_frame = np.zeros((FRAME_SIZE, FRAME_SIZE), bool)
    in_frame[:rows, :columns] = mask[np.ix_(at_rows, at_columns)]
    if not in_frame.any():
        x, y = inside_xy_px
        in_frame[min(int(y * rows / height), rows - 1), min(int(x * columns / width), columns - 1)] = True
    return in_frame


def distinct(rles: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the ascending indices of the masks that repeat none kept before them (IoU above `REPEAT_IOU`).

    Args:
        rles: N COCO compressed RLEs of one size, checked (`aopsam.masks.rle.runs`).
    """
    repeats = iou_matrix(rles, rles) > REPEAT_IOU
    kept: list[int] = []
    for index in range(len(rles)):
        if not repeats[index, kept].any():
            kept.append(index)
    return kept
