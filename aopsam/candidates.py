"""Masks on their way from the decoder to a record: SAM's filters, and Adaptive Mask Refinement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from segment_anything.utils.amg import is_box_near_crop_edge

from aopsam.masks.full_size import trace_full_size
from aopsam.masks.refine import Rule, added_points
from aopsam.masks.runs import Runs
from aopsam.masks.trace import Traced, trace
from aopsam.sam.decode import DecodedMasks, decode_passing, upscale
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts

FULL_SIZE_BUDGET = 32 * 2**20
"""Logits held at original size at once on a GPU, in pixels (128 MiB of float32): what bounds memory on large photos."""

BoxXYXY = tuple[int, int, int, int]


@dataclass(frozen=True)
class Candidate:
    """One mask that passed the thresholds, in pixels of the whole photo.

    Attributes:
        runs: its pixels.
        predicted_iou: the decoder's own estimate.
        stability: its stability score.
        prompt: the one prompt that it answers.
        alternative: which of the decoder's masks for that prompt.
        score: by which the better of two is told; the predicted IoU, in tiles weighted by agreement.
        crop_xyxy_px: the part of the photo that the model saw.
    """

    runs: Runs
    predicted_iou: float
    stability: float
    prompt: Prompts
    alternative: int
    score: float
    crop_xyxy_px: BoxXYXY


@dataclass(frozen=True)
class Filters:
    """What a mask must pass, as in segment-anything.

    Attributes:
        pred_iou: the predicted IoU must be above it; 0 filters nothing, not even a negative estimate.
        stability: least stability score; 0 lets all pass.
        stability_offset: how far the threshold of the logits moves for that score.
        cut: whether masks cut by an inner border of their crop pass, too.
    """

    pred_iou: float
    stability: float
    stability_offset: float
    cut: bool = False

    @property
    def min_iou(self) -> float:
        """For the decoder."""
        return self.pred_iou if self.pred_iou > 0 else -math.inf


@dataclass(frozen=True)
class Crop:
    """A part of a photo, encoded.

    Attributes:
        photo: the part, as the model sees it.
        xyxy_px: where it lies, right and bottom excluded.
        full_hw: rows and columns of the whole photo.
    """

    photo: EncodedPhoto
    xyxy_px: BoxXYXY
    full_hw: tuple[int, int]


def near_inner_border(boxes_xyxy_px: torch.Tensor, crop_xyxy_px: BoxXYXY, full_hw: tuple[int, int]) -> torch.Tensor:
    """(K,) bool: which boxes (K, 4) of a crop come within 20 px of a border that is not the photo's."""
    return is_box_near_crop_edge(boxes_xyxy_px, list(crop_xyxy_px), [0, 0, full_hw[1], full_hw[0]])


def select(
    crop: Crop, prompts: Prompts, decoded: DecodedMasks, filters: Filters
) -> tuple[list[Candidate], torch.Tensor]:
    """What passes of the decoded masks; and (K,) bool: which of them are stable."""
    traced = _trace(crop.photo, decoded.logits, filters)
    stable = torch.tensor([found.runs is not None for found in traced], dtype=torch.bool)
    boxes = torch.tensor([found.runs.box_xyxy_px for found in traced if found.runs is not None]).view(-1, 4)
    inside = ~near_inner_border(boxes, crop.xyxy_px, crop.full_hw) | filters.cut
    offset = np.array(crop.xyxy_px[:2])
    rows = np.flatnonzero(stable.numpy())[inside.numpy()]
    index, scores = decoded.index.tolist(), decoded.predicted_iou.tolist()
    candidates: list[Candidate] = []
    for row in rows.tolist():
        runs = traced[row].runs
        assert runs is not None
        prompt, mask = index[row]
        asked = prompts[prompt : prompt + 1]
        candidates.append(
            Candidate(
                runs.placed(*crop.xyxy_px[:2], crop.full_hw),
                scores[prompt][mask],
                traced[row].stability,
                Prompts(asked.coords_px + offset, asked.labels, asked.confidence),
                mask,
                scores[prompt][mask],
                crop.xyxy_px,
            )
        )
    return candidates, stable.to(decoded.logits.device)


def refine(
    crop: Crop,
    candidates: Sequence[Candidate],
    filters: Filters,
    rule: Rule,
    boundary: Literal["negative", "positive"],
    points_per_batch: int,
) -> tuple[list[Candidate], int]:
    """Adaptive Mask Refinement: ask again with two more points; the mask with the higher predicted IoU stays.

    Each candidate's first prompt and its two added points are one prompt. Of its answers (three masks for a point, one
    for a box) the one is compared that gave the candidate: a point's three stand for three levels of detail, and the
    best of all would make one of two levels that were found (benchmarks/LOG.md). It must pass the filters, too.

    Args:
        crop: where the candidates were found.
        candidates: masks of that crop.
        filters: what a new mask must pass.
        rule: the reading of the paper's choice of a strategy (`aopsam.masks.refine.wants_centre`).
        boundary: label of points just outside the mask. The paper does not say: as background they hold it back, as
            foreground they let it grow.
        points_per_batch: prompts decoded at once.

    Returns:
        The candidates in their order, and how many prompts were decoded.
    """
    refined, asked = list(candidates), 0
    offset = np.array(crop.xyxy_px[:2])
    added = [added_points(candidate.runs, rule) for candidate in candidates]
    for are_boxes in (False, True):
        rows = [i for i, c in enumerate(candidates) if added[i] is not None and c.prompt.are_boxes == are_boxes]
        if not rows:
            continue
        points = [found for i in rows if (found := added[i]) is not None]
        prompts = Prompts(
            np.concatenate([candidates[i].prompt.coords_px for i in rows]) - offset.astype(np.float32),
            np.concatenate([candidates[i].prompt.labels for i in rows]),
            np.concatenate([candidates[i].prompt.confidence for i in rows]),
        ).with_points(
            np.stack([found.points_px for found in points]) - offset,
            np.array([[int(found.inside or boundary == "positive")] * 2 for found in points]),
        )
        least = min(candidates[i].predicted_iou for i in rows)
        decoded = decode_passing(crop.photo, prompts, min_iou=least, points_per_batch=points_per_batch)
        asked += len(prompts)
        scores = decoded.predicted_iou.tolist()
        for row, (number, mask) in enumerate(decoded.index.tolist()):
            before = candidates[rows[number]]
            if mask != before.alternative or scores[number][mask] <= before.predicted_iou:
                continue
            one = DecodedMasks(decoded.predicted_iou, decoded.index[row : row + 1], decoded.logits[row : row + 1])
            passed, _ = select(crop, prompts, one, filters)
            if passed:
                gain = passed[0].predicted_iou - before.predicted_iou
                refined[rows[number]] = replace(passed[0], prompt=before.prompt, score=before.score + gain)
    return refined, asked


def _trace(photo: EncodedPhoto, logits: torch.Tensor, filters: Filters) -> list[Traced]:
    """Stability and runs of K masks; a GPU is quicker at making them at full size, a few at a time."""
    settings = {
        "threshold": photo.model.mask_threshold,
        "offset": filters.stability_offset,
        "least_stability": filters.stability,
    }
    if not logits.is_cuda:
        return trace(logits, photo.resampling, **settings)
    step = max(1, FULL_SIZE_BUDGET // (photo.hw[0] * photo.hw[1]))
    return [found for some in logits.split(step) for found in trace_full_size(upscale(photo, some), **settings)]
