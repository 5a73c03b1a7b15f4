"""Stability and runs of masks from full-size logits: the simple method, quick on a GPU, which has the bandwidth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from aopsam.masks.runs import Runs
from aopsam.masks.stability import stability_score
from aopsam.masks.trace import Traced


def trace_full_size(logits: torch.Tensor, *, threshold: float, offset: float, least_stability: float) -> list[Traced]:
    """Compute stability and runs as `aopsam.masks.trace.trace`, of K full-size logits (K, H, W) on any device.

    Everything but the crossings stays where the logits are; they come back in one copy.
    """
    height, width = logits.shape[1:]
    stability = stability_score(logits, threshold, offset)
    stable = torch.ones_like(stability, dtype=torch.bool) if least_stability <= 0 else stability >= least_stability
    guarded = torch.zeros(int(stable.sum()), width, height + 2, dtype=torch.bool, device=logits.device)
    guarded[:, :, 1:-1] = logits[stable].mT > threshold
    changes = (guarded[..., 1:] != guarded[..., :-1]).nonzero()  # in each column: rise, fall, rise, fall
    mask, column, row = changes.cpu().numpy().T
    ends = np.searchsorted(mask, np.arange(len(guarded) + 1))
    runs = iter(
        [Runs.of_columns(column[a:b:2], row[a:b:2], row[a + 1 : b : 2], (height, width)) for a, b in pairwise(ends)]
    )
    return [
        Traced(score, next(runs) if keep else None)
        for score, keep in zip(stability.tolist(), stable.tolist(), strict=True)
    ]
