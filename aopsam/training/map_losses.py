"""Compute losses between a prompt confidence map and its target."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from aopsam.training.recipes import MapLoss


def squared_error(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return (sigmoid(logits) - target)² per pixel, the paper's loss (AoP-SAM, "Training and inference")."""
    return (logits.sigmoid() - target).square()


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the binary cross entropy per pixel less its minimum for that target, so that a perfect map costs 0."""
    least = F.binary_cross_entropy(target, target, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") - least


def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return |target - p|² · cross entropy per pixel: quality focal loss (Li et al. 2020, Eq. 4, β = 2)."""
    distance = (logits.sigmoid() - target).square()
    return distance * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


MAP_LOSSES: dict[MapLoss, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": squared_error,
    "cross-entropy": cross_entropy,
    "focal": focal,
}
"""Loss per pixel by name: logits and target in [0, 1] in, the same shape out."""


def masked_mean(error: torch.Tensor, valid: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the mean error of a batch, with equal weight for every valid pixel of a row.

    Args:
        error: (B, S, S).
        valid: (B, S, S), 0 where the annotation is incomplete.
        weight: (B,) weight of each row.

    Returns:
        Scalar: the sum over valid pixels, divided by all pixels of the batch. (Dividing by the valid ones only
        would give a pixel of a sparsely annotated photo the weight of many of a fully annotated one.)
    """
    return ((error * valid).mean(dim=(1, 2)) * weight).mean()
