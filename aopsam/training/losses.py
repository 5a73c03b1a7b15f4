"""Compute losses of promptable segmentation, as pure functions of logits and targets."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return 1 - Dice of sigmoid(logits) (..., h, w) and targets in [0, 1] of the same shape: (...).

    The 1 in numerator and denominator (Milletari et al. 2016, as in SAM) makes the loss of an empty mask for
    an empty target 0.
    """
    p = logits.sigmoid()
    both = (p * targets).sum((-1, -2))
    return 1 - (2 * both + 1) / (p.sum((-1, -2)) + targets.sum((-1, -2)) + 1)


def mask_iou(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the IoU (...) of logits > 0 and targets > 0.5, both (..., h, w); 0 where both are empty."""
    answer, truth = logits > 0, targets > 0.5
    both = (answer & truth).sum((-1, -2)).float()
    either = (answer | truth).sum((-1, -2)).float()
    return both / either.clamp_min(1)


def prompt_loss(
    logits: torch.Tensor,
    iou_estimates: torch.Tensor,
    targets: torch.Tensor,
    single_weight: torch.Tensor,
    *,
    others: float,
    estimate: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss of P prompts, each with one single mask and three alternatives.

    The alternatives learn by Dice of the best of the three (Kirillov et al. 2023, section 3) with a small weight for
    the other two, so that none stops learning; the IoU estimates learn by squared error. There is no cross entropy:
    balanced, it counts the inside of a small mask as much as all the outside, and small masks grow (benchmarks/LOG.md);
    averaged over all pixels, it makes uncertain masks empty.

    Args:
        logits: (P, 4, h, w); mask 0 is the single one.
        iou_estimates: (P, 4).
        targets: (P, h, w) in [0, 1].
        single_weight: (P,) weight of the single mask; the best alternative has weight 1.
        others: weight of the mean over the three alternatives.
        estimate: weight of the IoU estimates' squared error.

    Returns:
        The scalar loss, and the (P,) IoU of the best alternative (by true IoU), detached.
    """
    truth = targets.unsqueeze(1).expand_as(logits)
    loss = dice_loss(logits, truth)
    best = loss[:, 1:].min(dim=1).values
    per_prompt = best + others * loss[:, 1:].mean(dim=1) + single_weight * loss[:, 0]
    with torch.no_grad():
        iou = mask_iou(logits, truth)
    error = F.mse_loss(iou_estimates, iou)
    return per_prompt.mean() + estimate * error, iou[:, 1:].max(dim=1).values
