"""Annotated photos in memory, from SA-1B shards."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from aopsam.photos.sa1b import Sample, read_shard


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
    """Decode a shard's sample; `ValueError` names the photo if it has no annotation or another size."""
    rgb = np.asarray(Image.open(io.BytesIO(sample.jpeg)).convert("RGB"))
    if not sample.annotations:
        raise ValueError(f"{sample.id}: no annotations; training needs at least one mask a photo")
    if rgb.shape[:2] != (sample.height, sample.width):
        raise ValueError(f"{sample.id}: photo is {rgb.shape[1::-1]}, JSON says {(sample.width, sample.height)}")
    return Annotated(
        sample.id,
        rgb,
        [a["segmentation"] for a in sample.annotations],
        np.array([a["point_coords"][0] for a in sample.annotations], dtype=np.float64),
        np.array([a["area"] for a in sample.annotations], dtype=np.float64),
    )


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
