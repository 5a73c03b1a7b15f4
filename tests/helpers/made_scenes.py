"""Scenes with known objects: textured discs and bars that cover each other on a textured ground."""

from __future__ import annotations

import numpy as np
from skimage.filters import gaussian

from aopsam.masks import rle
from aopsam.predictor.interior import interior_point
from aopsam.training.annotated import Annotated

HW = (320, 480)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8: a colour with soft grain of a random coarseness."""
    grain = gaussian(rng.normal(size=HW), rng.uniform(0.7, 4.0))
    grain = grain / grain.std() * rng.uniform(4, 14)
    return (rng.uniform(40, 215, 3) + grain[..., None]).clip(0, 255).astype(np.uint8)


def made_scene(seed: int, objects: int = 8) -> Annotated:
    """A photo of `HW` with at most that many objects; what is hidden by later ones is not part of a mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: HW[0], : HW[1]]
    rgb, owner = _texture(rng), np.full(HW, -1)
    for number in range(objects):
        cx, cy, angle = rng.uniform(40, HW[1] - 40), rng.uniform(40, HW[0] - 40), rng.uniform(0, np.pi)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        aside = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        long, wide = rng.uniform(20, 80), rng.uniform(12, 40)
        inside = (
            (along / long) ** 2 + (aside / wide) ** 2 < 1 if number % 2 else (abs(along) < long) & (abs(aside) < wide)
        )
        rgb = np.where(inside[..., None], _texture(rng), rgb)
        owner[inside] = number
    masks = [owner == number for number in range(objects) if (owner == number).sum() >= 100]
    return Annotated(
        f"made-{seed}",
        rgb,
        [dict(rle.encode(mask)) for mask in masks],
        np.array([interior_point(mask) for mask in masks], dtype=np.float64),
        np.array([mask.sum() for mask in masks], dtype=np.float64),
    )
