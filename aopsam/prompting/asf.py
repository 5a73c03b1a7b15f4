"""Adaptive Sampling and Filtering (AoP-SAM, section "Adaptive Sampling and Filtering").

Sampling turns a prompt confidence map (PCM) into points. Filtering compares what is still waiting with the masks
kept so far, on SAM's own embedding, and drops prompts that would repeat one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

Elimination = Literal["covered", "diverse", "relative", "scaled", "equation"]
"""Rules that drop prompts; the last two are the paper's, the others ours."""

USUAL_IOU = 0.8
"""Mean estimate of a round's best masks to which `relative` brings a model's. On `tiny`, which estimates 0.44, the
share of dropped prompts then falls with k as in the paper's Table 3d: 37 to 22 % for its 51.5 to 24.6 % (RESULTS)."""


def adaptive_sampling(
    confidence: np.ndarray, *, smoothing_sigma: float = 2.0, spacing: int = 6, threshold: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Return local maxima of the smoothed map, at least `spacing` apart and above `threshold`.

    The paper's text gives spacing 2, its Table 3 sweeps 4 to 7 and reports 6; so 6 is the default. Unlike
    `skimage.feature.peak_local_max`'s default, peaks near the border stay: objects are cut there too.

    Args:
        confidence: (h, w) float, the PCM of the photo without padding.
        smoothing_sigma: of the Gaussian filter, cells of the map.
        spacing: smallest Chebyshev distance between two peaks is `spacing` + 1 cells.
        threshold: absolute, on the smoothed map.

    Returns:
        Peaks (N, 2) int64 as XY cells of the map, by falling confidence, and their smoothed confidence (N,) float32.
    """
    smooth = ndimage.gaussian_filter(np.asarray(confidence, np.float32), smoothing_sigma)
    is_peak = (smooth == ndimage.maximum_filter(smooth, size=2 * spacing + 1, mode="nearest")) & (smooth > threshold)
    rows, columns = np.nonzero(is_peak)
    order = np.argsort(-smooth[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    # Only a plateau has two equal peaks within `spacing`: keep its first.
    alive = np.ones(len(rows), dtype=bool)
    for i in range(len(rows)):
        if alive[i]:
            near = np.maximum(abs(rows[i + 1 :] - rows[i]), abs(columns[i + 1 :] - columns[i])) <= spacing
            alive[i + 1 :] &= ~near
    rows, columns = rows[alive], columns[alive]
    return np.stack([columns, rows], axis=1), smooth[rows, columns]


def component_peaks(confidence: np.ndarray, *, threshold: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return one prompt per connected component above the threshold, at its peak: without Adaptive Sampling.

    The paper does not say how prompts are read off without sampling (Table 2, first row); this is our reading.

    Returns:
        As `adaptive_sampling`, with the unsmoothed confidence.
    """
    confidence = np.asarray(confidence, np.float32)
    labels, count = ndimage.label(confidence > threshold)
    peaks = np.array(ndimage.maximum_position(confidence, labels, range(1, count + 1)), dtype=np.int64).reshape(-1, 2)
    values = confidence[peaks[:, 0], peaks[:, 1]]
    order = np.argsort(-values, kind="stable")
    return peaks[order][:, ::-1], values[order]


class AdaptiveFilter:
    """State of filtering on one photo: mean features of the masks kept so far.

    For each kept mask i, M_i is the mean of the embedding F inside it, L2-normalised, and C_i = F_norm · M_i (Eq. 1);
    C is the mean of all C_i (Eq. 2). The dot product is linear, so C = F_norm · mean(M_i): one running sum of M_i is
    all that is kept.
    """

    def __init__(self, embedding: torch.Tensor) -> None:
        """Start without masks; `embedding` is (C, rows, columns) float32 of the photo's cells, without padding."""
        self._features = embedding
        self._normalised = functional.normalize(embedding, dim=0)
        self._sum = embedding.new_zeros(embedding.shape[0])
        self._count = 0

    def add(self, masks_on_cells: torch.Tensor) -> None:
        """Take in kept masks, (K, rows, columns) float32: the share of each cell that a mask covers."""
        weights = masks_on_cells.flatten(1)
        weights = weights[weights.sum(1) > 0]
        means = weights @ self._features.flatten(1).T / weights.sum(1, keepdim=True)
        self._sum += functional.normalize(means, dim=1).sum(0)
        self._count += len(means)

    def similarity(self, points: torch.Tensor) -> torch.Tensor | None:
        """Return C at N points, bilinear between cells (Eq. 2); None until a mask was added.

        Args:
            points: (N, 2) float32, XY as shares of the cells' width and height, 0 to 1.
        """
        if self._count == 0:
            return None
        similarity = torch.einsum("chw,c->hw", self._normalised, self._sum / self._count)
        grid = (2 * points - 1)[None, None].to(similarity)
        return functional.grid_sample(
            similarity[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False
        )[0, 0, 0]


def elimination_threshold(best_iou: torch.Tensor, similarity: torch.Tensor, rule: Elimination, k: float) -> float:
    """Return T_elim: mean over the round's prompts of IoU_i · C(prompt_i) (Eq. 3), times k under the rule `scaled`.

    The paper's Eq. 3 drops a waiting prompt with C > T_elim; its Table 3d sweeps a factor of 1.25 to 1.4 under which
    fewer are dropped as it grows, which only fits C > k · T_elim: that is `scaled`, the literal text `equation`.
    T_elim is as large as the model's IoU estimates are: a model that is modest about good masks drops nearly all
    prompts under every k of the table. `relative` is `scaled` with the round's estimates brought to a mean of 0.8.

    Args:
        best_iou: (N,) the decoder's estimate for each prompt's best mask.
        similarity: (N,) C at those prompts.
        rule: `relative`, `scaled` or `equation`.
        k: the factor of `relative` and `scaled`.
    """
    if rule == "relative":
        best_iou = best_iou * (USUAL_IOU / best_iou.mean().clamp_min(1e-6))
    threshold = float((best_iou * similarity).mean())
    return threshold if rule == "equation" else k * threshold


def cover_count(
    embedding: torch.Tensor, masks_on_cells: torch.Tensor, points: torch.Tensor, inside: torch.Tensor, likeness: float
) -> torch.Tensor:
    """Count the masks that each point lies in and resembles, for rule `covered`.

    The paper's C is the mean over all masks and blind to place: a prompt on one of two equal cups goes because the
    other is masked. Here a prompt repeats a mask only where it lies in it and its embedding has a cosine above
    `likeness` with the mask's mean embedding (M_i of Eq. 1).

    Args:
        embedding: (C, rows, columns) float32, as for `AdaptiveFilter`.
        masks_on_cells: (K, rows, columns) float32, the share of each cell that a kept mask covers.
        points: (N, 2) float32, XY as shares of the cells' width and height, 0 to 1.
        inside: (K, N) bool, whether the point lies in the mask.
        likeness: between -1 and 1.

    Returns:
        (N,) int64.
    """
    weights = masks_on_cells.flatten(1)
    means = functional.normalize(weights @ embedding.flatten(1).T, dim=1)
    alike = means @ features_at(embedding, points).T > likeness
    return (alike & inside).sum(dim=0)


def features_at(embedding: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return unit features of an embedding at N points, bilinear between cells.

    Args:
        embedding: (C, rows, columns) float32, as for `AdaptiveFilter`.
        points: (N, 2) float32, XY as shares of the cells' width and height, 0 to 1.

    Returns:
        (N, C) float32, L2-normalised.
    """
    grid = (2 * points - 1)[None, None].to(embedding)
    normalised = functional.normalize(embedding, dim=0)[None]
    features = functional.grid_sample(normalised, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return functional.normalize(features[0, :, 0], dim=0).T
