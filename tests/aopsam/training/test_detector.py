from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from aopsam.detector.assignment import Assignment
from aopsam.detector.network import BoxDetector, levels_of, priors
from aopsam.training.detector import DetectorTask, score_loss
from aopsam.training.detector_batch import collate, punishable
from aopsam.training.recipes import DetectorRecipe
from aopsam.training.trainer import train
from tests.helpers.made_detector import Rectangles

SHORT = DetectorRecipe(steps=6, batch=2, warmup=2, width=8, precision="float32")


def _run(task: DetectorTask, folder: Path) -> DetectorTask:
    task.model.load_state_dict(train(task, folder, loader_workers=0, validate_every=10**6))
    task.model.eval()
    return task


def test_it_learns_where_the_rectangles_are(tmp_path: Path) -> None:
    rows = Rectangles(8)
    task = DetectorTask(rows, replace(SHORT, steps=80, batch=8, learning_rate=1e-2, average=0.9, width=16), rows)
    before = task.validate(task.model.eval())
    after = _run(task, tmp_path).validate(task.model)
    assert before is not None
    assert after is not None
    assert after.score > 0.4 > 2 * before.score


def test_boxes_and_masks_arrive_in_cells() -> None:
    rows = Rectangles(3)
    batch = collate(rows, [2, 0])
    assert batch.embedding.shape == (2, 17, 8, 8)
    torch.testing.assert_close(batch.boxes[0], torch.from_numpy(rows.rows[2]["boxes"]) / 8)
    assert batch.masks[0].shape == (2, 16, 16)
    x0, y0, x1, y1 = rows.rows[2]["boxes"][0]
    assert float(batch.masks[0][0].sum()) * 16 == pytest.approx((x1 - x0) * (y1 - y0), rel=1e-5)
    assert batch.valid[0, :12].min() == 1
    assert batch.valid[0, 12:].max() == 0


def test_each_score_learns_the_iou_of_its_box_and_the_rest_as_far_as_they_may_be_punished() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, 0.5])
    taught = Assignment(torch.tensor([2]), torch.tensor([0]), torch.tensor([0.7]))
    punish = torch.tensor([1.0, 0.0, 0.0, 0.5])
    expected = 0.0
    for logit, target, weight in zip(logits, (0.0, 0.0, 0.7, 0.0), (1.0, 0.0, 1.0, 0.5), strict=True):
        cross = F.binary_cross_entropy_with_logits(logit, torch.tensor(target))
        expected += weight * float(cross) * (float(logit.sigmoid()) - target) ** 2
    assert float(score_loss(logits, taught, punish)) == pytest.approx(expected, rel=1e-5)


def test_what_may_be_punished_lies_at_the_answers_own_positions() -> None:
    valid = torch.zeros(1, 8, 12)
    valid[0, :4, :8] = 1
    punish = punishable(valid, 2)[0]
    centre = priors(levels_of(4, 6, 2))[:, :2]
    assert (punish == ((centre[:, 0] < 4) & (centre[:, 1] < 2)).float()).all()


def test_the_unannotated_teaches_no_score() -> None:
    """Far from annotated masks an answer may say what it likes: its score gets no gradient."""
    valid = torch.zeros(1, 16, 16)
    valid[0, :8, :8] = 1
    near = punishable(valid, 2)[0]
    logits = torch.zeros(len(near), requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    score_loss(logits, Assignment(nothing, nothing, torch.zeros(0)), near).backward()
    assert logits.grad is not None
    assert ((logits.grad != 0) == (near > 0)).all()


def test_masks_are_learnt_in_the_first_part_alone() -> None:
    task = DetectorTask(Rectangles(4), replace(SHORT, mask_share=0.5, steps=10))
    batch = task.batch(0)
    for step, with_masks in ((4, True), (5, False)):
        task.heads.zero_grad()
        loss, figures = task.loss(batch, step, torch.Generator().manual_seed(0))
        loss.backward()
        assert (task.heads.scale.grad is not None) is with_masks
        assert (float(figures["mask"].detach()) > 0) is with_masks
        task.heads.scale.grad = None


def test_what_is_kept_is_the_detector_without_its_heads(tmp_path: Path) -> None:
    task = DetectorTask(Rectangles(4), SHORT)
    state = train(task, tmp_path, loader_workers=0)
    BoxDetector(17, task.model.levels, 8).load_state_dict(state)


def test_validation_needs_rows_and_draws_some() -> None:
    task = DetectorTask(Rectangles(2), SHORT, Rectangles(0))
    assert task.validate(task.model.eval()) is None
    judged = DetectorTask(Rectangles(2), SHORT, Rectangles(2)).validate(task.model)
    assert judged is not None
    assert judged.score == judged.figures["ar_100"]
    assert judged.pictures["boxes/1"].shape == (64, 64, 3)
    assert judged.pictures["boxes/1"].dtype == np.uint8


def test_half_precision_learns_the_same_kind_of_loss() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        task = DetectorTask(Rectangles(2), replace(SHORT, precision=precision))
        losses.append(float(task.loss(task.batch(0), 0, torch.Generator().manual_seed(0))[0].detach()))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_no_rows_are_no_training() -> None:
    with pytest.raises(ValueError, match="no prompt maps"):
        DetectorTask(Rectangles(0), SHORT)
