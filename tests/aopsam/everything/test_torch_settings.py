"""Masks do not depend on torch's default dtype, autocast or training mode, nor on where a model comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import PromptEncoder, Sam

from aopsam.detector.weights import load_detector
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.predictor.weights import load_predictor
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, load_sam
from tests.helpers.small_sams import SmallEncoder

OPEN = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


def _masks(generator: AutoMaskGenerator, rgb: np.ndarray) -> list[tuple[object, ...]]:
    return [(r["segmentation"]["counts"], r["predicted_iou"], r["stability_score"]) for r in generator.generate(rgb)]


@contextmanager
def _as_another_program_left_torch(model: Sam) -> Iterator[None]:
    """Leave torch in float64, autocast and training mode, as another program may."""
    torch.set_default_dtype(torch.float64)
    model.train()
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        model.eval()


STRATEGIES_TRIED: dict[str, dict[str, Any]] = {
    "grid-2": {},
    "random-4": {},
    "aop": {"max_decoded": 8, "round_size": 4},
    "aop ": {"elimination": "diverse", "max_decoded": 4},
    "aop  ": {"elimination": "scaled", "max_decoded": 8, "round_size": 4},
    "hierarchical": {"sparse": 2, "dense": 3},
    "oas-box": {"max_boxes": 4},
    "oas-center": {"max_boxes": 4},
    "attention": {"max_prompts": 3},
}


@pytest.mark.parametrize("prompts", STRATEGIES_TRIED)
def test_masks_do_not_depend_on_how_torch_was_left(tiny: Sam, scene: np.ndarray, prompts: str) -> None:
    name, options = prompts.strip(), STRATEGIES_TRIED[prompts]
    generator = AutoMaskGenerator(
        tiny, prompts=name, strategy_options=options, output_mode="coco_rle", pred_iou_thresh=0.6
    )
    expected = _masks(generator, scene)
    assert expected
    with _as_another_program_left_torch(tiny):
        assert _masks(generator, scene) == expected
        assert tiny.training  # as its user had it


@pytest.mark.parametrize("name", ["efficient_sam_ti", "mobile_sam"])
def test_other_models_do_not_depend_on_how_torch_was_left(name: str, scene: np.ndarray) -> None:
    torch.manual_seed(0)
    model = MODELS[name].build()
    generator = AutoMaskGenerator(model, points_per_side=1, output_mode="coco_rle", **OPEN)
    expected = _masks(generator, scene)
    assert expected
    with _as_another_program_left_torch(model):
        assert _masks(generator, scene) == expected


def test_models_are_float32_whatever_the_default() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        networks = [load_sam("tiny"), load_predictor(), load_detector()]
    finally:
        torch.set_default_dtype(torch.float32)
    for network in networks:
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("prompts", STRATEGIES_TRIED)
def test_a_model_of_segment_anythings_own_registry(prompts: str, scene: np.ndarray) -> None:
    torch.manual_seed(0)
    model = assemble(SmallEncoder())
    model.prompt_encoder = PromptEncoder(256, (8, 8), (128, 128), 16).eval()
    options = AutoMaskGenerator(model, prompts="grid-2").options
    assert (options.pred_iou_thresh, options.stability_score_thresh, options.box_nms_thresh) == (0.88, 0.95, 0.7)
    strategy = {"prompts": prompts.strip(), "strategy_options": STRATEGIES_TRIED[prompts]}
    assert AutoMaskGenerator(model, **strategy, **OPEN).label(scene).prompts_decoded
