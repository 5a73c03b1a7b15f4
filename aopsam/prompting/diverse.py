"""Rule `diverse` of `aop`: confident places that look like none of those already chosen.

The paper drops a prompt that looks like the masks decoded so far, wherever it lies, and only ever among the peaks of
the map. Here every place of the map is a candidate, and a prompt chosen takes value from its neighbours in place and in
SAM's embedding, before anything is decoded: all prompts of a photo are one batch, and there are as many as asked for.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

BLOCK = 4
"""Side of the blocks of the map of which each gives one candidate, cells of the map; SAM's masks have half as many."""
REACH = 3 / 16
"""Distance at which a prompt chosen takes less from a place that looks just like it, shares of the long side."""
TOLERANCE = 1 / 8
"""Difference in the embedding at which it takes less, shares of the mean difference of two places of the photo."""


def block_peaks(confidence: np.ndarray, *, smoothing_sigma: float, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """The most confident place of each block of the smoothed map.

    Args:
        confidence: (h, w) float, the prompt confidence map of the photo without padding.
        smoothing_sigma: of the Gaussian filter, cells of the map.
        block: side of a block, cells of the map; those at the right and lower edge may be cut.

    Returns:
        Places (N, 2) int64 as XY cells of the map, row by row of blocks, and their smoothed confidence (N,) float32.
    """
    smooth = ndimage.gaussian_filter(np.asarray(confidence, np.float32), smoothing_sigma)
    (height, width), (rows, columns) = smooth.shape, (-(-side // block) for side in smooth.shape)
    padded = np.full((rows * block, columns * block), -np.inf, np.float32)
    padded[:height, :width] = smooth
    blocks = padded.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows, columns, -1)
    row, column = np.divmod(blocks.argmax(axis=2), block)
    row, column = row + block * np.arange(rows)[:, None], column + block * np.arange(columns)
    return np.stack([column.ravel(), row.ravel()], axis=1), smooth[row, column].ravel()


def diverse_order(
    confidence: torch.Tensor, places: torch.Tensor, looks: torch.Tensor, *, most: int, least_value: float
) -> torch.Tensor:
    """Choose places one by one, each time the one of most value.

    The value of a place p is its confidence, times 1 - k(p, q) for each place q chosen before, with
    k = exp(-d² / 2·REACH²) · exp(-e² / (TOLERANCE · m)): d is the distance of the two places, e that of their unit
    embeddings, m the mean of e² over all pairs of the photo, which makes one constant do for encoders whose cells are
    all much alike and for those whose are not.

    Args:
        confidence: (N,) float32, not negative.
        places: (N, 2) float32 XY, in shares of the photo's long side.
        looks: (N, C) float32, SAM's embedding at the places, L2-normalised.
        most: places chosen at most.
        least_value: of a place that is chosen; choosing ends where none is above it.

    Returns:
        Indices (n,) int64 in the order chosen, on the CPU.
    """
    spread = 2 - 2 * looks.mean(dim=0).square().sum()
    value = confidence.clone()
    chosen: list[int] = []
    while len(chosen) < min(most, len(value)):
        best = int(value.argmax())
        if not value[best] > least_value:
            break
        chosen.append(best)
        distance = (places - places[best]).square().sum(dim=1)
        difference = (2 - 2 * looks @ looks[best]).clamp(min=0)
        taken = torch.exp(-distance / (2 * REACH**2) - difference / (TOLERANCE * spread).clamp(min=1e-6))
        value = value * (1 - taken)
        value[best] = -torch.inf
    return torch.tensor(chosen, dtype=torch.int64)
