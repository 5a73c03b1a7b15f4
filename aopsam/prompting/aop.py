"""`aop`: AoP-SAM. A predictor says where prompts should be; ASF samples them and drops those that repeat a mask."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from typing import get_args

import numpy as np
import torch

from aopsam.predictor.sampling import Sampling
from aopsam.prompting.asf import (
    AdaptiveFilter,
    Elimination,
    adaptive_sampling,
    component_peaks,
    cover_count,
    elimination_threshold,
)
from aopsam.prompting.proposer import Proposer
from aopsam.prompting.strategy import Decoded, Trace
from aopsam.sam.decode import inside_masks, masks_on_cells
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts


class AutoPrompts:
    """Prompts by falling confidence, in rounds; between rounds, prompts that look like what is masked are dropped."""

    def __init__(
        self,
        proposer: Proposer,
        *,
        adaptive_sampling: bool = True,
        adaptive_filtering: bool = True,
        elimination: Elimination = "covered",
        likeness: float = 0.8,
        times: int = 3,
        k: float | None = None,
        smoothing_sigma: float | None = None,
        spacing: int | None = None,
        threshold: float | None = None,
        round_size: int = 16,
        max_prompts: int = 512,
    ) -> None:
        """Set up the strategy; what is None comes with the weights, else from the paper.

        Args:
            proposer: gives the prompt confidence map.
            adaptive_sampling: local maxima; without, one prompt per connected component (Table 2, first row).
            adaptive_filtering: drop prompts between rounds.
            elimination: `covered` (a prompt that lies in kept masks and looks like them, benchmarks/LOG.md), or the
                paper's: `scaled` (C > k · T_elim) or `equation` (C > T_elim).
            likeness: cosine from which a prompt looks like a mask, for `covered`.
            times: masks that it must lie in and look like, for `covered`.
            k: the factor of `scaled` (Table 3d); None for the one of the decoding model, 1.3 for official SAMs.
            smoothing_sigma: smoothing factor of the sampling, cells of the map.
            spacing: least distance of two prompts, cells of the map.
            threshold: least confidence of a prompt.
            round_size: prompts decoded between two filterings.
            max_prompts: proposed on one photo at most, the most confident.
        """
        if elimination not in get_args(Elimination):
            raise ValueError(f"aop: elimination={elimination!r}; choose from {', '.join(get_args(Elimination))}")
        if round_size < 1 or max_prompts < 1:
            raise ValueError(f"aop: round_size={round_size} and max_prompts={max_prompts} must be at least 1")
        self.proposer = proposer
        self.adaptive_sampling = adaptive_sampling
        self.adaptive_filtering = adaptive_filtering
        self.elimination: Elimination = elimination
        self.likeness, self.times = likeness, times
        self.k = k
        given = {"smoothing_sigma": smoothing_sigma, "spacing": spacing, "threshold": threshold}
        card = asdict(proposer.predictor.sampling)
        self.sampling = Sampling(**(card | {key: value for key, value in given.items() if value is not None}))
        self.round_size = round_size
        self.max_prompts = max_prompts

    def propose(self, photo: EncodedPhoto) -> Prompts:
        """All prompts of a photo, by falling confidence."""
        confidence = self.proposer.confidence(photo)
        if self.adaptive_sampling:
            peaks, values = adaptive_sampling(confidence, **asdict(self.sampling))
        else:
            peaks, values = component_peaks(confidence, threshold=self.sampling.threshold)
        height, width = photo.hw
        scale = np.array([width / confidence.shape[1], height / confidence.shape[0]])
        return Prompts.from_points((peaks + 0.5) * scale, values)[: self.max_prompts]

    def rounds(self, photo: EncodedPhoto, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """Rounds of `round_size`; the prompts waiting are filtered after each."""
        waiting = self.propose(photo)
        trace.proposed += len(waiting)
        if not self.adaptive_filtering:
            yield waiting
            return
        rule = self._covered if self.elimination == "covered" else self._resembling
        yield from rule(photo, waiting, trace)

    def _covered(self, photo: EncodedPhoto, waiting: Prompts, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """Rounds after which prompts that lie in kept masks and look like them go."""
        rows, columns = photo.content_cells
        embedding = photo.embedding[0, :, :rows, :columns].float()
        counts = np.zeros(len(waiting), np.int64)
        while len(waiting):
            decoded = yield waiting[: self.round_size]
            waiting, counts = waiting[self.round_size :], counts[self.round_size :]
            cells, points = masks_on_cells(photo, decoded.kept_logits), self._on_cells(photo, waiting)
            inside = inside_masks(photo, decoded.kept_logits, waiting.coords_px[:, 0], photo.model.mask_threshold)
            counts = counts + cover_count(embedding, cells, points, inside, self.likeness).cpu().numpy()
            stays = counts < self.times
            trace.dropped["lies in kept masks and resembles them"] += int((~stays).sum())
            waiting, counts = waiting[stays], counts[stays]

    def _resembling(self, photo: EncodedPhoto, waiting: Prompts, trace: Trace) -> Generator[Prompts, Decoded, None]:
        """Rounds after which prompts that resemble the mean of all kept masks go: the paper's Eq. 1 to 3."""
        rows, columns = photo.content_cells
        k = photo.model.thresholds.elimination_k if self.k is None else self.k
        seen = AdaptiveFilter(photo.embedding[0, :, :rows, :columns].float())
        while len(waiting):
            decoded = yield waiting[: self.round_size]
            waiting = waiting[self.round_size :]
            seen.add(masks_on_cells(photo, decoded.kept_logits))
            similarity = seen.similarity(self._on_cells(photo, decoded.prompts))
            waiting_similarity = seen.similarity(self._on_cells(photo, waiting))
            if similarity is None or waiting_similarity is None:
                continue
            best_iou = decoded.predicted_iou.max(dim=1).values
            limit = elimination_threshold(best_iou, similarity, self.elimination, k)
            stays = (waiting_similarity <= limit).cpu().numpy()
            trace.dropped["resembles a kept mask"] += int((~stays).sum())
            waiting = waiting[stays]

    @staticmethod
    def _on_cells(photo: EncodedPhoto, prompts: Prompts) -> torch.Tensor:
        """(N, 2) XY of points as shares of the extent of the content cells, which may reach into the padding."""
        height, width = photo.hw
        rows, columns = photo.content_cells
        cell = photo.model.image_encoder.img_size / photo.embedding.shape[-1]
        extent = torch.tensor([columns * cell / photo.input_hw[1] * width, rows * cell / photo.input_hw[0] * height])
        return torch.from_numpy(prompts.coords_px[:, 0]) / extent
