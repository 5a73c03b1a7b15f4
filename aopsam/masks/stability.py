"""Stability score of masks: how little they change when the threshold of their logits moves."""

from __future__ import annotations

import torch


def stability_score(logits: torch.Tensor, mask_threshold: float, offset: float) -> torch.Tensor:
    """Compute |logit > threshold + offset| / |logit > threshold - offset| (Kirillov et al. 2023, appendix B).

    segment-anything sums rows in int16, which overflows on photos wider than 32,767 pixels; here they are int64.

    Args:
        logits: (K, H, W).
        mask_threshold: where logits are binarised.
        offset: how far the threshold moves to either side.

    Returns:
        (K,) float32 in [0, 1]; NaN where even the lower threshold leaves no pixel, which no comparison keeps.
    """
    inner = (logits > mask_threshold + offset).sum((-1, -2))
    outer = (logits > mask_threshold - offset).sum((-1, -2))
    return inner / outer
