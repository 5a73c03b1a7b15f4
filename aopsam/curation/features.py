"""Compute the features by which photos are chosen: pooled embedding, and three statistics of the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam.masks import rle
from aopsam.sam.encode import EncodedPhoto


@dataclass(frozen=True)
class MaskGeometry:
    """Size and position of one mask.

    Attributes:
        scale: √(area / photo's area), 0 to 1.
        offset: distance of the middle of its box from the photo's middle, 0 there, 1 in a corner; each axis is measured
            in half sides, so that the photo's aspect ratio does not matter.
    """

    scale: float
    offset: float


@dataclass(frozen=True)
class PhotoStatistics:
    """Statistics of a photo's masks.

    Attributes:
        masks: number of masks.
        object_scale: median scale of the masks.
        layout: mean offset of the masks.
    """

    masks: int
    object_scale: float
    layout: float


def mask_geometry(segmentation: Mapping[str, Any], image_hw: tuple[int, int]) -> MaskGeometry | None:
    """Return the geometry of a mask from an untrusted source; None if the mask is empty.

    Args:
        segmentation: COCO RLE.
        image_hw: rows and columns of the photo.

    Raises:
        ValueError: the mask is malformed or of another size than the photo.
    """
    runs = rle.runs(segmentation)
    height, width = segmentation["size"]
    if (height, width) != image_hw:
        raise ValueError(f"mask of {(height, width)} [h, w], photo of {image_hw}")
    area = int(runs[1::2].sum())
    if not area:
        return None
    x, y, wide, high = rle.bbox_of_runs_xywh(runs, height)
    offset = np.hypot((2 * x + wide) / width - 1, (2 * y + high) / height - 1) / np.sqrt(2)
    return MaskGeometry(float(np.sqrt(area / (height * width))), float(offset))


def photo_statistics(masks: Sequence[MaskGeometry]) -> PhotoStatistics:
    """Return the statistics of a photo with at least one mask."""
    scales, offsets = [mask.scale for mask in masks], [mask.offset for mask in masks]
    return PhotoStatistics(len(masks), float(np.median(scales)), float(np.mean(offsets)))


def pooled_embedding(photo: EncodedPhoto) -> NDArray[np.float16]:
    """Average SAM's embedding over the cells that show the photo: (C,) float16 of length 1."""
    rows, columns = photo.content_cells
    pooled = photo.embedding[0, :, :rows, :columns].float().mean(dim=(1, 2)).cpu().numpy()
    return (pooled / max(float(np.linalg.norm(pooled)), 1e-12)).astype(np.float16)
