"""Before any training, the model answers a prompt with the region under it."""

from __future__ import annotations

import numpy as np
import torch

from aopsam.masks import rle
from aopsam.training.annotated import Annotated
from aopsam.training.sam_recipe import SamRecipe, build_sam
from aopsam.training.validation import prompted_iou


def test_untrained_model_finds_a_plain_region_from_many_of_its_points() -> None:
    rgb = np.full((512, 512, 3), 60, np.uint8)
    mask = np.zeros((512, 512), bool)
    mask[120:320, 150:330] = True
    rgb[mask] = (200, 190, 120)
    points = np.array([(x, y) for x in range(170, 320, 40) for y in range(140, 310, 40)], dtype=np.float64)
    areas = np.full(len(points), mask.sum(), dtype=np.float64)
    photo = Annotated("plain", rgb, [dict(rle.encode(mask))] * len(points), points, areas)
    ious, _ = prompted_iou(build_sam(SamRecipe()), photo)
    assert (ious.max(1) > 0.7).mean() > 0.3


def test_same_recipe_same_weights() -> None:
    one, two = build_sam(SamRecipe()).state_dict(), build_sam(SamRecipe()).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
