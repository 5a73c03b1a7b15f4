"""From a photo's annotations to its prompt map, and to where that map may be learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.ndimage import binary_dilation

from aopsam.masks import rle
from aopsam.predictor.frame import FRAME_SIZE, content_hw
from aopsam.predictor.interior import interior_point
from aopsam.predictor.targets import PRESETS, Combine, merge_points, prompt_map

Source = Literal["interior", "recorded"]

MAX_PIXELS = 100_000_000
"""Of a photo that prompt maps are made of."""

MERGE_RADIUS = 3.0
"""Repeats (several annotators) closer than this are one prompt, frame pixels."""

MARGIN = 6
"""How far around an annotated mask a sparse annotation counts as complete, frame pixels."""


def target_and_valid(
    annotations: Sequence[Mapping[str, Any]],
    image_hw: tuple[int, int],
    *,
    source: Source = "interior",
    combine: Combine = "max",
    preset: str = "medium",
    sparse: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The prompt map of a photo and its valid pixels.

    Args:
        annotations: records of SA-1B's layout, original pixels.
        image_hw: rows and columns of the photo.
        source: `interior`, the point deepest inside each mask, or `recorded`, the annotation's `point_coords`.
        combine: what overlapping prompts do.
        preset: a name of `PRESETS`.
        sparse: only annotated masks and `MARGIN` around them are valid; else the whole photo is.

    Returns:
        (256, 256) float32 map and (256, 256) uint8, 1 where it is valid.

    Raises:
        ValueError: no annotation with a mask, one that is malformed or of another size than the photo, a point
            outside the photo, an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; the names are {', '.join(PRESETS)}")
    points, areas, masks = [], [], []
    for index, annotation in enumerate(annotations):
        try:
            mask = rle.decode(annotation["segmentation"], max_pixels=MAX_PIXELS)
            recorded = annotation["point_coords"][0] if source == "recorded" else None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"annotation {index}: {type(error).__name__}: {error}") from error
        if mask.shape != image_hw:
            raise ValueError(f"annotation {index}: mask of {mask.shape} [h, w], photo of {image_hw}")
        if mask.any():
            points.append(interior_point(mask) if recorded is None else recorded)
            areas.append(int(mask.sum()))
            masks.append(mask)
    if not masks:
        raise ValueError("no annotated mask")
    rows, columns = content_hw(image_hw)
    scale = FRAME_SIZE / max(image_hw)
    points_px, areas_px2 = np.array(points, float), np.array(areas, float) * scale**2
    kept = merge_points(points_px * scale, areas_px2, MERGE_RADIUS)
    kernel = PRESETS[preset]
    target = prompt_map(
        points_px[kept],
        image_hw,
        box=kernel.box,
        sigma=kernel.sigma,
        combine=combine,
        sigmas=kernel.sigmas(areas_px2[kept]),
    )
    valid = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)
    valid[:rows, :columns] = _near(masks, rows, columns) if sparse else 1
    return target, valid


def _near(masks: Sequence[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """(rows, columns) bool: frame pixels whose centre lies in a mask, and `MARGIN` around them."""
    height, width = masks[0].shape
    at_rows = ((np.arange(rows) + 0.5) * height / rows).astype(int)
    at_columns = ((np.arange(columns) + 0.5) * width / columns).astype(int)
    covered = np.zeros((rows, columns), bool)
    for mask in masks:
        covered |= mask[np.ix_(at_rows, at_columns)]
    return binary_dilation(covered, iterations=MARGIN)
