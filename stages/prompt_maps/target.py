"""From a photo's annotations to its prompt map, the map's valid pixels and the photo's objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.ndimage import binary_dilation

from aopsam.masks import rle
from aopsam.photos.decode import MAX_PIXELS
from aopsam.predictor.frame import FRAME_SIZE, content_hw
from aopsam.predictor.interior import interior_point
from aopsam.predictor.targets import PRESETS, Combine, merge_points, prompt_map
from stages.prompt_maps.objects import FrameObjects, box_in_frame, distinct, mask_in_frame

Source = Literal["interior", "recorded"]

MERGE_RADIUS = 3.0
"""Distance below which repeats (several annotators) are one prompt, frame pixels."""

MARGIN = 6
"""Distance from an annotated mask within which a sparse annotation counts as complete, frame pixels."""


@dataclass(frozen=True)
class PhotoTarget:
    """Training target of a photo, in the frame of S = `FRAME_SIZE` pixels.

    Attributes:
        map: (S, S) float32 in [0, 1], the prompt map.
        valid: (S, S) uint8, 1 where the map may be learnt from.
        objects: the annotated masks, without repeats.
    """

    map: np.ndarray
    valid: np.ndarray
    objects: FrameObjects

    def mirrored(self, image_hw: tuple[int, int]) -> PhotoTarget:
        """Return the target of the mirrored photo."""
        columns = content_hw(image_hw)[1]
        mirrored = [np.zeros_like(self.map), np.zeros_like(self.valid)]
        for new, old in zip(mirrored, (self.map, self.valid), strict=True):
            new[:, :columns] = old[:, :columns][:, ::-1]
        return PhotoTarget(mirrored[0], mirrored[1], self.objects.mirrored(columns))


@dataclass(frozen=True)
class _Object:
    """One usable annotation: its prompt in original pixels, its box and mask in the frame."""

    rle: Mapping[str, Any]
    point_xy_px: tuple[float, float]
    area_px: int
    peak: float
    box_xyxy_px: tuple[float, float, float, float]
    in_frame: np.ndarray


def photo_target(
    annotations: Sequence[Mapping[str, Any]],
    image_hw: tuple[int, int],
    on_problem: Callable[[str], None],
    *,
    source: Source = "interior",
    combine: Combine = "max",
    preset: str = "medium",
    sparse: bool = False,
) -> PhotoTarget:
    """Make the prompt map of a photo, its valid pixels and its objects.

    Args:
        annotations: records of SA-1B's layout, original pixels; one that is malformed, of another size than the photo
            or without a point of `source` in it is left out. `weight`, in [0, 1], is the peak of its prompt; 1 where
            there is none.
        image_hw: rows and columns of the photo.
        on_problem: called with one line for every annotation that cannot be used.
        source: `interior`, the point deepest inside each mask, or `recorded`, the annotation's `point_coords`.
        combine: how overlapping prompts are combined.
        preset: a name of `PRESETS`.
        sparse: only annotated masks and `MARGIN` around them are valid; else the whole photo is.

    Raises:
        ValueError: no annotation with a mask, an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; the names are {', '.join(PRESETS)}")
    objects = []
    for index, annotation in enumerate(annotations):
        try:
            found = _object(annotation, image_hw, source)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            on_problem(f"annotation {index}: {type(error).__name__}: {error}")
            continue
        if found is not None:
            objects.append(found)
    if not objects:
        raise ValueError("no annotated mask")
    scale = FRAME_SIZE / max(image_hw)
    points_px = np.array([one.point_xy_px for one in objects])
    areas_px2 = np.array([one.area_px for one in objects], float) * scale**2
    kept = merge_points(points_px * scale, areas_px2, MERGE_RADIUS)
    kernel = PRESETS[preset]
    target = prompt_map(
        points_px[kept],
        image_hw,
        box=kernel.box,
        sigma=kernel.sigma,
        combine=combine,
        sigmas=kernel.sigmas(areas_px2[kept]),
        peaks=np.array([objects[index].peak for index in kept]),
    )
    rows, columns = content_hw(image_hw)
    valid = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)
    covered = np.any([one.in_frame for one in objects], axis=0)[:rows, :columns]
    valid[:rows, :columns] = binary_dilation(covered, iterations=MARGIN) if sparse else 1
    once = [objects[index] for index in distinct([one.rle for one in objects])]
    boxes = np.array([one.box_xyxy_px for one in once], np.float32)
    return PhotoTarget(target, valid, FrameObjects(boxes, np.stack([one.in_frame for one in once])))


def _object(annotation: Mapping[str, Any], image_hw: tuple[int, int], source: Source) -> _Object | None:
    """Check one annotation and bring it into the frame; None where its mask is empty.

    Raises:
        ValueError: the mask has another size than the photo, or its point or weight is out of range.
    """
    segmentation = annotation["segmentation"]
    size = tuple(segmentation["size"])
    if size != image_hw:
        raise ValueError(f"mask of {size} [h, w], photo of {image_hw}")
    mask = rle.decode(segmentation, max_pixels=MAX_PIXELS)
    if not mask.any():
        return None
    deepest = interior_point(mask)
    x, y = (float(value) for value in annotation["point_coords"][0]) if source == "recorded" else deepest
    if not (0 <= x < image_hw[1] and 0 <= y < image_hw[0]):
        raise ValueError(f"point {(x, y)} lies outside the photo of {image_hw[1]}×{image_hw[0]} px")
    peak = float(annotation.get("weight", 1.0))
    if not 0 <= peak <= 1:
        raise ValueError(f"weight {peak}, expected 0 to 1")
    return _Object(segmentation, (x, y), int(mask.sum()), peak, box_in_frame(mask), mask_in_frame(mask, deepest))
