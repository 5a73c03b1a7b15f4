"""Annotated photos in memory, from SA-1B shards."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

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


def annotated(sample: Sample) -> Annotated:
    """Decode a shard's sample; a mask without `point_coords` gets the point deepest inside it.

    Raises:
        ValueError: the photo has no annotation or another size than its JSON says, or a mask is malformed or empty;
            the line names the photo.
    """
    rgb = np.asarray(Image.open(io.BytesIO(sample.jpeg)).convert("RGB"))
    if not sample.annotations:
        raise ValueError(f"{sample.id}: no annotations; training needs at least one mask a photo")
    if rgb.shape[:2] != (sample.height, sample.width):
        raise ValueError(f"{sample.id}: photo is {rgb.shape[1::-1]}, JSON says {(sample.width, sample.height)}")
    rles, points = [], []
    for number, annotation in enumerate(sample.annotations):
        try:
            mask = rle.decode(annotation.get("segmentation", {}))
            if mask.shape != rgb.shape[:2]:
                raise ValueError(f"mask of {mask.shape[::-1]} on a photo of {rgb.shape[1::-1]}")
            given = annotation.get("point_coords")
            points.append(given[0] if given else interior_point(mask))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{sample.id}: annotation {number}: {error}") from error
        rles.append(annotation["segmentation"])
    areas = np.array([rle.area(mask) for mask in rles], dtype=np.float64)
    return Annotated(sample.id, rgb, rles, np.array(points, dtype=np.float64), areas)


def load_photos(shards: Iterable[str | Path | BinaryIO]) -> list[Annotated]:
    """All annotated photos of the shards, in memory; photos without any annotation are left out.

    Raises:
        ValueError: a shard holds something broken; the line names it.
    """
    problems: list[str] = []
    photos = [annotated(s) for shard in shards for s in read_shard(shard, problems.append) if s.annotations]
    if problems:
        raise ValueError("; ".join(problems))
    return photos
