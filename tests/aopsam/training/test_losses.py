"""Losses against hand-made cases."""

from __future__ import annotations

import pytest
import torch

from aopsam.training.losses import dice_loss, mask_iou, prompt_loss

SURE = 30.0


def picture(*rows: str) -> torch.Tensor:
    return torch.tensor([[float(c == "#") for c in row] for row in rows])


def sure(mask: torch.Tensor) -> torch.Tensor:
    return (mask * 2 - 1) * SURE


TRUTH = picture("##..", "##..", "....", "....")
HALF = picture("#...", "#...", "....", "....")
EMPTY = torch.zeros(4, 4)


def test_dice() -> None:
    assert dice_loss(sure(TRUTH), TRUTH).item() == pytest.approx(0, abs=1e-6)
    # 2 pixels of 4: 1 - (2 * 2 + 1) / (2 + 4 + 1)
    assert dice_loss(sure(HALF), TRUTH).item() == pytest.approx(2 / 7, abs=1e-6)
    assert dice_loss(sure(EMPTY), EMPTY).item() == pytest.approx(0, abs=1e-6)


def test_mask_iou() -> None:
    stack = torch.stack([sure(TRUTH), sure(HALF), sure(EMPTY), sure(1 - TRUTH)])
    assert mask_iou(stack, TRUTH.expand(4, -1, -1)).tolist() == [1.0, 0.5, 0.0, 0.0]
    assert mask_iou(sure(EMPTY), EMPTY).item() == 0.0


def test_prompt_loss_follows_the_best_alternative_and_scores_estimates() -> None:
    logits = torch.stack([sure(EMPTY), sure(HALF), sure(TRUTH), sure(EMPTY)])[None].requires_grad_()
    estimates = torch.tensor([[0.0, 0.5, 1.0, 0.0]])
    loss, iou = prompt_loss(logits, estimates, TRUTH[None], torch.zeros(1), others=0.0, estimate=1.0)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert iou.tolist() == [1.0]
    worse, _ = prompt_loss(logits, 1 - estimates, TRUTH[None], torch.ones(1), others=0.1, estimate=1.0)
    worse.backward()
    assert worse.item() > 1
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
