"""The bundled weights may not fall below what they reached on made-up scenes (benchmarks/floors.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aopsam.generator import AutoMaskGenerator
from aopsam.masks import rle
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated
from aopsam.training.validation import best_of_three
from tests.made_scenes import made_scene

FLOORS = json.loads((Path(__file__).parents[1] / "benchmarks" / "floors.json").read_text())["weights"]


@pytest.fixture(scope="module")
def scenes() -> list[Annotated]:
    return [made_scene(seed) for seed in range(6)]


@pytest.mark.parametrize("kind", ["point", "box"])
def test_one_prompt_a_mask(scenes: list[Annotated], kind: str) -> None:
    assert best_of_three(load_sam("tiny"), scenes, kind) >= FLOORS[f"gt-{kind}"]


def test_everything_with_few_prompts(scenes: list[Annotated]) -> None:
    generator = AutoMaskGenerator(load_sam("tiny"))
    best, decoded = [], []
    for scene in scenes:
        labelled = generator.label(scene.rgb)
        decoded.append(labelled.prompts_decoded)
        masks = np.stack([record["segmentation"] for record in labelled.records])
        for truth in map(rle.decode, scene.rles):
            both, either = (masks & truth).sum((1, 2)), (masks | truth).sum((1, 2))
            best.append((both / either).max())
    assert np.mean(best) >= FLOORS["aop"]
    assert np.mean(decoded) <= FLOORS["aop decoded, most"]
