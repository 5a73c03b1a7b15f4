"""The SAM loop: it learns, and a resumed run is the unbroken run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from segment_anything.modeling import Sam

from aopsam._half_weights import save_half
from aopsam.masks import rle
from aopsam.training.annotated import Annotated
from aopsam.training.sam import SamTask
from aopsam.training.sam_recipe import SamRecipe, build_sam
from aopsam.training.trainer import train

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


def trained(
    folder: Path, recipe: SamRecipe, stop_at: int | None = None, start: dict[str, torch.Tensor] | None = None
) -> Sam:
    task = SamTask([scene()], recipe, start=start)
    task.model.load_state_dict(train(task, folder, stop_at=stop_at, loader_workers=0))
    return task.model


def test_resumed_run_equals_unbroken_run(tmp_path: Path) -> None:
    recipe = replace(SMALL, steps=6)
    unbroken = trained(tmp_path / "a", recipe).state_dict()
    trained(tmp_path / "b", recipe, stop_at=4)
    resumed = trained(tmp_path / "b", recipe).state_dict()
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_the_phase_of_a_batch_is_that_of_its_update() -> None:
    recipe = replace(SMALL, steps=10, dense_share=0.5, dense_windows=3, accumulate=2)
    task = SamTask([scene()], recipe, workers=2)
    assert [len(task.batch(index).rgb) for index in (0, 19, 20, 39)] == [3, 3, 2, 2]


def test_validation_asks_with_points_and_boxes() -> None:
    task = SamTask([scene()], SMALL, held_out=[scene()])
    validation = task.validate(task.model.eval())
    assert validation is not None
    assert validation.score == np.mean([validation.figures["point"], validation.figures["box"]])


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    recipe = replace(SMALL, steps=1)
    given = build_sam(replace(recipe, seed=1))
    sam = trained(tmp_path, recipe, start=given.state_dict())
    pairs = list(zip(sam.parameters(), given.parameters(), build_sam(recipe).parameters(), strict=True))
    assert all(torch.allclose(trained, begun, atol=0.01) for trained, begun, _ in pairs)
    assert not all(torch.allclose(trained, fresh, atol=0.01) for trained, _, fresh in pairs)


def test_learns_one_scene_and_exports_it(tmp_path: Path) -> None:
    sam = trained(tmp_path, replace(SMALL, steps=150, windows=1, correction_share=(0.0, 0.3)))
    ious = [json.loads(line)["iou"] for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert len(ious) == 15
    assert np.mean(ious[-5:]) > np.mean(ious[2:5]) + 0.05
    save_half(sam, tmp_path / "w.safetensors", {"pred_iou_thresh": "0.5"})
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert set(file.keys()) == sam.state_dict().keys()
        assert file.metadata() == {"pred_iou_thresh": "0.5"}
        assert file.get_tensor("mask_decoder.iou_token.weight").dtype == torch.float16
