"""The SAM loop: it learns, and a resumed run is the unbroken run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from segment_anything.modeling import Sam

from aopsam._half_weights import save_half
from aopsam.masks import rle
from aopsam.sam.encoders.nanodet import Trunk
from aopsam.training.annotated import Annotated
from aopsam.training.build_sam import build_sam
from aopsam.training.recipes import SamRecipe
from aopsam.training.sam import SamTask
from aopsam.training.sam_step import edge_loss
from aopsam.training.trainer import train

SMALL = SamRecipe(
    steps=30,
    dense_steps=3,
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
    return Annotated("scene", rgb, masks, np.array(points, dtype=np.float64), areas, outlines(masks))


def outlines(rles: list[dict]) -> np.ndarray:
    """White where two pixels of a row belong to different masks."""
    edges = np.zeros((96, 128), np.uint8)
    for mask in map(rle.decode, rles):
        edges[:, 1:][mask[:, 1:] != mask[:, :-1]] = 255
    return edges


def trained(
    folder: Path, recipe: SamRecipe, stop_at: int | None = None, start: dict[str, torch.Tensor] | None = None
) -> Sam:
    task = SamTask([[scene()]], recipe, start=start)
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
    recipe = replace(SMALL, steps=10, dense_steps=5, dense_windows=3, accumulate=2)
    task = SamTask([[scene()]], recipe, workers=2)
    assert [len(task.batch(index).rgb) for index in (0, 19, 20, 39)] == [3, 3, 2, 2]


def test_validation_asks_with_points_and_boxes() -> None:
    task = SamTask([[scene()]], replace(SMALL, dense_steps=0), held_out=[scene()])
    validation = task.validate(task.model.eval())
    assert validation is not None
    assert validation.score == np.mean([validation.figures["point"], validation.figures["box"]])
    assert validation.figures["edge"] > 0


def test_without_the_decoder_validation_is_below_any_with_it() -> None:
    task = SamTask([[scene()]], SMALL, held_out=[scene()])
    validation = task.validate(task.model.eval())
    assert validation is not None
    assert set(validation.figures) == {"alike", "edge"}
    assert -1 <= validation.score <= 0


def test_the_trunk_begins_with_nanodets_weights_and_learns_slowly() -> None:
    published = {name: tensor + 1 for name, tensor in Trunk().state_dict().items()}
    task = SamTask([[scene()]], SMALL, trunk=published)
    assert torch.equal(task.model.image_encoder.trunk.stages[0].down.bias, published["stages.0.down.bias"])
    rates = task.rates(10)
    assert rates["trunk"] == pytest.approx(SMALL.trunk_share * rates["encoder"])
    parts: dict[str, int] = {}
    for group in task.optimizer().param_groups:
        parts[group["part"]] = parts.get(group["part"], 0) + sum(p.numel() for p in group["params"])
    assert parts["trunk"] == sum(p.numel() for p in task.model.image_encoder.trunk.parameters())
    assert sum(parts.values()) == sum(p.numel() for p in task.model.parameters()) + 6
    with pytest.raises(ValueError, match="not NanoDet's weights"):
        SamTask([[scene()]], SMALL, trunk={})


def test_where_no_edges_are_known_none_are_learnt() -> None:
    logits, target = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((2, 4, 4), -1.0)
    assert edge_loss(logits, target) == 0
    target[0, 0, 0] = 1
    expected = -logits[0, 0, 0].sigmoid().log()
    torch.testing.assert_close(edge_loss(logits, target), expected, atol=0.02, rtol=0.02)
    assert edge_loss(torch.full((1, 2, 2), 0.3).logit(), torch.full((1, 2, 2), 0.3)).abs() < 1e-6


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    recipe = replace(SMALL, steps=1)
    given = build_sam(replace(recipe, seed=1))
    sam = trained(tmp_path, recipe, start=given.state_dict())
    pairs = list(zip(sam.parameters(), given.parameters(), build_sam(recipe).parameters(), strict=True))
    assert all(torch.allclose(trained, begun, atol=0.01) for trained, begun, _ in pairs)
    assert not all(torch.allclose(trained, fresh, atol=0.01) for trained, _, fresh in pairs)


def test_learns_one_scene_and_exports_it(tmp_path: Path) -> None:
    sam = trained(tmp_path, replace(SMALL, steps=80, windows=1, correction_share=(0.0, 0.3)))
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    ious, edges = [line["iou"] for line in lines[1:]], [line["edge"] for line in lines]
    assert np.mean(ious[-2:]) > np.mean(ious[2:5]) + 0.05
    assert np.mean(edges[-3:]) < np.mean(edges[:3])
    save_half(sam, tmp_path / "w.safetensors", {"pred_iou_thresh": "0.5"})
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert set(file.keys()) == sam.state_dict().keys()
        assert file.metadata() == {"pred_iou_thresh": "0.5"}
        assert file.get_tensor("mask_decoder.iou_token.weight").dtype == torch.float16
