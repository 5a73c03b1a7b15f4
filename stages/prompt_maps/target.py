"""From a photo's annotations to its prompt map, the map's valid pixels and the photo's objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from aopsam.masks import rle
from aopsam.photos.decode import MAX_PIXELS
from aopsam.predictor.frame import FRAME_SIZE, content_hw
from aopsam.predictor.interior import interior_point
from aopsam.predictor.kernels import PRESETS, Combine
from aopsam.predictor.targets import merge_points, prompt_map
from stages.prompt_maps.objects import FrameObjects, box_in_frame, distinct, mask_in_frame
from stages.prompt_maps.recipe import Source

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
        content_hw: rows and columns of the frame that show the photo.
        source: where the prompts are: `recorded` if that of any mask was, else `interior`.
    """

    map: np.ndarray
    valid: np.ndarray
    objects: FrameObjects
    content_hw: tuple[int, int]
    source: Source

    def mirrored(self) -> PhotoTarget:
        """Return the target of the mirrored photo."""
        columns = self.content_hw[1]
        mirrored = [np.zeros_like(self.map), np.zeros_like(self.valid)]
        for new, old in zip(mirrored, (self.map, self.valid), strict=True):
            new[:, :columns] = old[:, :columns][:, ::-1]
        return replace(self, map=mirrored[0], valid=mirrored[1], objects=self.objects.mirrored(columns))


@dataclass(frozen=True)
class _Object:
    """One usable annotation: its prompt in original pixels, its box and mask in the frame."""

    rle: Mapping[str, Any]
    point_xy_px: tuple[float, float]
    recorded: bool
    area_px: int
    peak: float
    box_xyxy_px: tuple[float, float, float, float]
    in_frame: np.ndarray


def photo_target(
    annotations: Sequence[Mapping[str, Any]],
    image_hw: tuple[int, int],
    on_problem: Callable[[str], None],
    *,
    source: Source = "recorded",
    combine: Combine = "max",
    preset: str = "medium",
    sparse: bool = False,
    stretched: bool = False,
) -> PhotoTarget:
    """Make the prompt map of a photo, its valid pixels and its objects.

    Args:
        annotations: records of SA-1B's layout, original pixels; one that is malformed, of another size than the photo
            or with a point outside it is left out. `weight`, in [0, 1], is the peak of its prompt; 1 where there is
            none.
        image_hw: rows and columns of the photo.
        on_problem: called with one line for every annotation that cannot be used.
        source: `recorded`, the annotation's first `point_coords`, or the point deepest inside the mask where it has
            none; or `interior`, the deepest point always.
        combine: how overlapping prompts are combined.
        preset: a name of `PRESETS`.
        sparse: only annotated masks and `MARGIN` around them are valid; else the whole photo is.
        stretched: whether the photo fills the frame, as it does the square of a `StretchedSam`.

    Raises:
        ValueError: no annotation with a mask, an unknown preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; the names are {', '.join(PRESETS)}")
    objects = []
    rows, columns = content = content_hw(image_hw, stretched=stretched)
    for index, annotation in enumerate(annotations):
        try:
            found = _object(annotation, image_hw, content, source)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            on_problem(f"annotation {index}: {type(error).__name__}: {error}")
            continue
        if found is not None:
            objects.append(found)
    if not objects:
        raise ValueError("no annotated mask")
    scale = np.array([columns / image_hw[1], rows / image_hw[0]])
    points_px = np.array([one.point_xy_px for one in objects])
    areas_px2 = np.array([one.area_px for one in objects], float) * scale.prod()
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
        stretched=stretched,
    )
    valid = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)
    covered = np.any([one.in_frame for one in objects], axis=0)[:rows, :columns]
    valid[:rows, :columns] = binary_dilation(covered, iterations=MARGIN) if sparse else 1
    once = [objects[index] for index in distinct([one.rle for one in objects])]
    boxes = np.array([one.box_xyxy_px for one in once], np.float32)
    drawn = FrameObjects(boxes, np.stack([one.in_frame for one in once]))
    used: Source = "recorded" if any(one.recorded for one in objects) else "interior"
    return PhotoTarget(target, valid, drawn, content, used)


def _object(
    annotation: Mapping[str, Any], image_hw: tuple[int, int], content: tuple[int, int], source: Source
) -> _Object | None:
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
    given = annotation.get("point_coords") if source == "recorded" else None
    x, y = (float(value) for value in given[0]) if given else deepest
    if not (0 <= x < image_hw[1] and 0 <= y < image_hw[0]):
        raise ValueError(f"point {(x, y)} lies outside the photo of {image_hw[1]}×{image_hw[0]} px")
    peak = float(annotation.get("weight", 1.0))
    if not 0 <= peak <= 1:
        raise ValueError(f"weight {peak}, expected 0 to 1")
    box, in_frame = box_in_frame(mask, content), mask_in_frame(mask, deepest, content)
    return _Object(segmentation, (x, y), bool(given), int(mask.sum()), peak, box, in_frame)
