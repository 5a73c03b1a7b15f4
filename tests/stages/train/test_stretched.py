"""Predictor and detector of a SAM that stretches photos: maps, training, proposals, by the stages that others go by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.predictor.sampling import Sampling
from aopsam.sam.decoders.efficient_sam import efficient_sam_ti
from aopsam.sam.registry import MODELS, load_sam
from aopsam.training.recipes import DetectorRecipe, PredictorRecipe
from aopsam.training.trainer import train
from stages.prompt_maps.recipe import MapRecipe
from stages.prompt_maps.rows import PromptMapRows
from stages.train.detector import detector_task
from stages.train.predictor import PredictorJob, predictor_task
from tests.helpers.made_maps import write_maps
from tests.helpers.made_shard import jpeg, two_objects, write_shard

HW = (96, 256)


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Maps of a `small` EfficientSAM of random weights, which the registry holds."""
    torch.manual_seed(0)
    weights = tmp_path / "small.safetensors"
    save_file({key: value.contiguous() for key, value in efficient_sam_ti(64).state_dict().items()}, weights)
    spec = replace(MODELS["efficient_sam_ti"], build=lambda: efficient_sam_ti(64), weights=weights)
    monkeypatch.setitem(MODELS, "small", spec)
    photos = {name: (jpeg(seed, HW), two_objects(HW)) for seed, name in enumerate("abc")}
    write_maps(tmp_path / "maps", write_shard(tmp_path / "s.tar", photos), MapRecipe(sam="small", threads=1))
    return str(tmp_path / "maps")


def test_a_predictor_and_a_detector_are_trained_and_propose(maps: str, tmp_path: Path) -> None:
    row = PromptMapRows([maps])[0]
    assert row["content_hw"].tolist() == [256, 256]
    assert row["image"].any(axis=(1, 2)).all()
    assert row["map"][80, 20] == 1  # the recorded point (20, 30): 30 / 96 * 256

    sam = load_sam("small")
    rgb = np.random.default_rng(0).integers(0, 256, (*HW, 3), np.uint8)
    job = PredictorJob((maps,), PredictorRecipe(steps=2, batch=2, warmup=1), Sampling(), 5)
    predicting = predictor_task(job)
    predicting.model.load_state_dict(train(predicting, tmp_path / "predictor", loader_workers=0))
    options = {"adaptive_filtering": False, "threshold": 0.0, "max_decoded": 8}
    generator = AutoMaskGenerator(
        sam, prompts="aop", predictor=predicting.model.eval(), strategy_options=options, pred_iou_thresh=0
    )
    assert generator.label(rgb).prompts_decoded == 8

    detecting = detector_task([maps], DetectorRecipe(steps=2, batch=2, warmup=1, width=8, precision="float32"))
    _, masks = detecting.dataset.objects(0)
    assert np.flatnonzero(masks[1].any(axis=1)).tolist() == list(range(133, 213))  # rows 50 to 80 of 96
    detecting.model.load_state_dict(train(detecting, tmp_path / "detector", loader_workers=0))
    options = {"detector": detecting.model.eval(), "max_boxes": 8}
    generator = AutoMaskGenerator(sam, prompts="oas-center", strategy_options=options, pred_iou_thresh=0)
    assert generator.label(rgb).prompts_decoded == 8
