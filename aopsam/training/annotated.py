"""Annotated photos in memory, decoded and checked, from shards of any reader."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aopsam.masks import rle
from aopsam.photos.sa1b import Sample, read_shard
from aopsam.predictor.interior import interior_point


@dataclass(frozen=True)
class Annotated:
    """One photo in memory with its annotations.

    Attributes:
        id: the photo's name in its shard.
        rgb: (H, W, 3) uint8.
        rles: M COCO compressed RLE dicts.
        points_px: (M, 2) float, x and y of the pixel deepest inside each mask.
        areas_px: (M,) float.
    """

    id: str
    rgb: np.ndarray
    rles: list[dict[str, Any]]
    points_px: np.ndarray
    areas_px: np.ndarray


Problem = Callable[[str], None]
"""Told one line for whatever cannot be used."""


def annotated(sample: Sample, on_problem: Problem) -> Annotated | None:
    """Decode a shard's sample; a mask without `point_coords` gets the point deepest inside it.

    A mask that is malformed, empty or of another size costs itself, and a photo that cannot be decoded or is of another
    size than its JSON says costs itself; each is a line to `on_problem` that names the photo.

    Returns:
        None where no mask is left.
    """
    try:
        rgb = np.asarray(Image.open(io.BytesIO(sample.jpeg)).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:  # PIL's own errors for a file that is none
        on_problem(f"{sample.id}: not a photo: {error}")
        return None
    if rgb.shape[:2] != (sample.height, sample.width):
        on_problem(f"{sample.id}: photo is {rgb.shape[1::-1]}, JSON says {(sample.width, sample.height)}")
        return None
    rles, points = [], []
    for number, annotation in enumerate(sample.annotations):
        try:
            mask = rle.decode(annotation.get("segmentation", {}))
            if mask.shape != rgb.shape[:2]:
                raise ValueError(f"mask of {mask.shape[::-1]} on a photo of {rgb.shape[1::-1]}")
            given = annotation.get("point_coords")
            points.append(np.array(given[0], dtype=np.float64).reshape(2) if given else interior_point(mask))
        except (ValueError, TypeError, AttributeError) as error:
            on_problem(f"{sample.id}: annotation {number}: {error}")
            continue
        rles.append(annotation["segmentation"])
    if not rles:
        return None
    areas = np.array([rle.area(mask) for mask in rles], dtype=np.float64)
    return Annotated(sample.id, rgb, rles, np.array(points, dtype=np.float64), areas)


def load_photos(
    shards: Iterable[str | Path],
    on_problem: Problem | None = None,
    read: Callable[[Any, Problem], Iterator[Sample]] = read_shard,
) -> list[Annotated]:
    """All annotated photos of the shards, in memory; photos without any usable mask are left out.

    Args:
        shards: what to read.
        on_problem: told one line for whatever is broken; the rest is used.
        read: reads one shard; by default as a tar in SA-1B's layout.

    Raises:
        ValueError: something is broken and there is no `on_problem`; the line names it.
    """
    problems: list[str] = []
    report = problems.append if on_problem is None else on_problem
    found = [annotated(sample, report) for shard in shards for sample in read(shard, report)]
    if problems:
        raise ValueError("; ".join(problems))
    return [photo for photo in found if photo is not None]
