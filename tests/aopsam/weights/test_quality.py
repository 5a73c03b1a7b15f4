"""The bundled weights may not fall below what they reached on scenes and photos of the project's own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.metrics.greedy import iou_per_ground_truth
from aopsam.metrics.iou import iou_matrix
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated
from aopsam.training.validation import best_of_three
from tests.helpers import ROOT
from tests.helpers.free_photos import free_photos
from tests.helpers.made_scenes import made_scene

FLOORS = json.loads((ROOT / "benchmarks" / "floors.json").read_text())["weights"]


@pytest.fixture(scope="module", params=list(FLOORS))
def case(request: pytest.FixtureRequest) -> tuple[list[Annotated], dict[str, float]]:
    """Annotated photos and their floors."""
    photos = {"made-up scenes": lambda: [made_scene(seed) for seed in range(6)], "free photos": free_photos}
    return photos[request.param](), FLOORS[request.param]


@pytest.mark.parametrize("kind", ["point", "box"])
def test_one_prompt_a_mask(case: tuple[list[Annotated], dict[str, float]], kind: str) -> None:
    photos, floors = case
    assert best_of_three(load_sam("tiny"), photos, kind) >= floors[f"gt-{kind}"]


def test_everything_with_few_prompts(case: tuple[list[Annotated], dict[str, float]]) -> None:
    photos, floors = case
    generator = AutoMaskGenerator(load_sam("tiny"), output_mode="coco_rle")
    labelled = [generator.label(photo.rgb) for photo in photos]
    pairs = zip(labelled, photos, strict=True)
    found = [iou_matrix([r["segmentation"] for r in one.records], photo.rles) for one, photo in pairs]
    assert np.mean([iou_per_ground_truth(iou) for iou in found]) >= floors["aop"]
    assert np.mean([one.prompts_decoded for one in labelled]) <= floors["aop decoded, most"]
