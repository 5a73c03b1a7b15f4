"""The SAM loop: it learns, and a resumed run is the unbroken run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from aopsam.masks import rle
from aopsam.training.annotated import Annotated
from aopsam.training.export import export_weights
from aopsam.training.sam import train_sam
from aopsam.training.sam_recipe import SamRecipe, build_sam

SMALL = SamRecipe(
    steps=30,
    dense_share=0.1,
    dense_windows=2,
    windows=2,
    window_px=64,
    frame_share=(0.0, 0.0),
    prompts=4,
    scale=(0.4, 0.5),
    late=0.5,
    correction_share=(0.0, 1.0),
    warmup=5,
    cooldown=0.2,
    average=0.8,
    encoder_widths=(8, 8, 16, 32),
)


def scene() -> Annotated:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    rgb = rng.integers(90, 120, (96, 128, 3)).astype(np.uint8)
    masks, points = [], []
    for row in range(2):
        for column in range(3):
            cx, cy, radius = 22 + 42 * column, 26 + 44 * row, 12 + 2 * column
            mask = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
            rgb[mask] = rng.integers(0, 255, 3)
            masks.append(dict(rle.encode(mask)))
            points.append((cx, cy))
    areas = np.array([rle.area(mask) for mask in masks], dtype=np.float64)
    return Annotated("scene", rgb, masks, np.array(points, dtype=np.float64), areas)


def train(folder: Path, recipe: SamRecipe = SMALL, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    sam = train_sam(recipe, [scene()], folder, stop_at=stop_at, checkpoint_every=100, loader_workers=0)
    return sam.state_dict()


def test_resumed_run_equals_unbroken_run(tmp_path: Path) -> None:
    recipe = SamRecipe(**{**SMALL.__dict__, "steps": 6})
    unbroken = train(tmp_path / "a", recipe)
    train(tmp_path / "b", recipe, stop_at=4)
    resumed = train(tmp_path / "b", recipe)
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    recipe = SamRecipe(**{**SMALL.__dict__, "steps": 1})
    given = build_sam(SamRecipe(**{**recipe.__dict__, "seed": 1}))
    sam = train_sam(recipe, [scene()], tmp_path, start=given.state_dict(), checkpoint_every=100, loader_workers=0)
    pairs = list(zip(sam.parameters(), given.parameters(), build_sam(recipe).parameters(), strict=True))
    assert all(torch.allclose(trained, begun, atol=0.01) for trained, begun, _ in pairs)
    assert not all(torch.allclose(trained, fresh, atol=0.01) for trained, _, fresh in pairs)


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    recipe = SamRecipe(**{**SMALL.__dict__, "steps": 1})
    train(tmp_path, recipe)
    with pytest.raises(ValueError, match="others"):
        train(tmp_path, SamRecipe(**{**recipe.__dict__, "others": 0.5}))


def test_learns_one_scene_and_exports_it(tmp_path: Path) -> None:
    recipe = SamRecipe(**{**SMALL.__dict__, "steps": 150, "windows": 1, "correction_share": (0.0, 0.3)})
    sam = train_sam(recipe, [scene()], tmp_path, checkpoint_every=100, loader_workers=0)
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 100, 150]
    assert lines[-1]["iou"] > lines[0]["iou"] + 0.05
    export_weights(sam, tmp_path / "w.safetensors", {"pred_iou_thresh": "0.5"})
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert set(file.keys()) == sam.state_dict().keys()
        assert file.metadata() == {"pred_iou_thresh": "0.5"}
        assert file.get_tensor("mask_decoder.iou_token.weight").dtype == torch.float16
