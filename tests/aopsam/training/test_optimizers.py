"""Optimizer of every training: its kind, betas and weight decay, as the papers state them or as ours differ."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.training.affinity import Affinity
from aopsam.training.build_sam import make_optimizer
from aopsam.training.detector import DetectorTask
from aopsam.training.distillation import DecoupledTask
from aopsam.training.finetune import FinetuneRecipe, FinetuneTask
from aopsam.training.predictor import PredictorTask
from aopsam.training.recipes import DetectorRecipe, PredictorRecipe, SamRecipe
from aopsam.training.sami import SamiRecipe, SamiTask
from aopsam.training.student import StudentRecipe
from tests.helpers.made_detector import Rectangles
from tests.helpers.small_sams import photos, small

Made = Callable[[Sam], torch.optim.Optimizer]
ROW = {"embedding": np.zeros((4, 2, 2), np.float16)}


def _predictor(sam: Sam) -> torch.optim.Optimizer:
    return PredictorTask([ROW], PredictorRecipe()).optimizer()


def _detector(sam: Sam) -> torch.optim.Optimizer:
    return DetectorTask(Rectangles(1), DetectorRecipe(width=8)).optimizer()


def _sami(sam: Sam) -> torch.optim.Optimizer:
    return SamiTask(SamiRecipe(teacher="small", student="small"), sam, small(1), photos(1)).optimizer()


def _decoupled(sam: Sam) -> torch.optim.Optimizer:
    return DecoupledTask(StudentRecipe(teacher="small", student="small"), sam, small(1), photos(1)).optimizer()


def _finetune(sam: Sam) -> torch.optim.Optimizer:
    return FinetuneTask(FinetuneRecipe(student="small"), sam, photos(1)).optimizer()


def _sam(sam: Sam) -> torch.optim.Optimizer:
    return make_optimizer(sam, Affinity(), SamRecipe())


@pytest.mark.parametrize(
    ("make", "kind", "betas", "matrices", "vectors"),
    [
        (_predictor, torch.optim.Adam, (0.9, 0.999), 0.0, 0.0),  # AoP-SAM: Adam
        (_detector, torch.optim.AdamW, (0.9, 0.999), 0.02, 0.02),  # ours
        (_sami, torch.optim.AdamW, (0.9, 0.95), 0.05, 0.0),  # EfficientSAM, as MAE
        (_decoupled, torch.optim.AdamW, (0.9, 0.999), 0.05, 0.0),  # ours
        (_finetune, torch.optim.AdamW, (0.9, 0.999), 0.1, 0.0),  # EfficientSAM
        (_sam, torch.optim.AdamW, (0.9, 0.98), 0.05, 0.0),  # ours
    ],
)
def test_optimizers_are_those_stated(
    make: Made, kind: type, betas: tuple[float, float], matrices: float, vectors: float, small_sam: Sam
) -> None:
    optimizer = make(copy.deepcopy(small_sam).requires_grad_(True))  # tasks freeze what they are given
    assert type(optimizer) is kind
    assert {group["betas"] for group in optimizer.param_groups} == {betas}
    decays: dict[bool, set[float]] = {True: set(), False: set()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            decays[parameter.ndim > 1 and parameter.shape[0] > 4].add(group["weight_decay"])
    assert decays[True] == {matrices}
    assert decays[False] == {vectors}


def test_the_teacher_is_frozen(small_sam: Sam) -> None:
    teacher = copy.deepcopy(small_sam).train().requires_grad_(True)
    task = DecoupledTask(StudentRecipe(teacher="small", student="small"), teacher, small(1), photos(1))
    assert not any(module.training for module in task.teacher.modules())
    assert not any(parameter.requires_grad for parameter in task.teacher.parameters())
