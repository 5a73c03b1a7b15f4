"""Adaptive Mask Refinement: masks of a crop in, the same masks decoded again with two more points each out.

Where the points lie is `aopsam.masks.refine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from aopsam.everything.candidates import Candidate, Crop, Filters, select
from aopsam.everything.lock_step import Steps
from aopsam.masks.refine import AddedPoints, Boundary, Points, Rule, added_points
from aopsam.sam.decode import DecodedMasks, Round
from aopsam.sam.prompts import Prompts


@dataclass(frozen=True)
class Refinement:
    """Readings of what the paper leaves open.

    Attributes:
        rule: of the choice of a strategy (`aopsam.masks.refine.wants_centre`).
        boundary: label of points just outside the mask: as background they hold it back, as foreground they let it
            grow.
        points: whether they join the mask's first prompt ("rerun EfficientSAM with the new points") or replace it.
        multimask: of `Round`.
    """

    rule: Rule
    boundary: Boundary = "negative"
    points: Points = "added"
    multimask: bool | None = None

    def prompts(self, first: Prompts, added: Sequence[AddedPoints]) -> Prompts:
        """Return the second prompts of N masks from their first ones, all points or all boxes, and their new points."""
        points = np.stack([found.points_px for found in added])
        labels = np.array([[int(found.inside or self.boundary == "positive")] * 2 for found in added])
        if self.points == "alone":
            return Prompts.from_labelled_points(points, labels, first.confidence)
        return first.with_points(points, labels)


def refine(
    crop: Crop,
    candidates: Sequence[Candidate],
    filters: Filters,
    how: Refinement,
    choose_masks: Callable[[Crop, Prompts, DecodedMasks], tuple[DecodedMasks, torch.Tensor | None]],
) -> Steps[tuple[list[Candidate], int]]:
    """Decode each mask again with two more points; keep the one with the higher score, or predicted IoU without one.

    Each candidate's first prompt and its two added points are one prompt. Of its answers (three masks for a point, one
    for a box) the one is compared that gave the candidate: a point's three stand for three levels of detail, and the
    best of all would make one of two levels that were found (benchmarks/LOG.md). Where a prompt has one mask, the best
    of its answers, it is compared with the best of the second's. It must pass the filters, too.

    Args:
        crop: where the candidates were found.
        candidates: masks of that crop.
        filters: what a new mask must pass.
        how: which points, and what becomes of them.
        choose_masks: scores decoded masks and drops those of too low a score, if masks rank by a score, and all but the
            best of a prompt, if one is wanted.

    Returns:
        The candidates in their order, and how many prompts were decoded.
    """
    refined, asked = list(candidates), 0
    offset = np.array(crop.xyxy_px[:2])
    added = [added_points(candidate.runs, how.rule) for candidate in candidates]
    for are_boxes in (False, True):
        rows = [i for i, c in enumerate(candidates) if added[i] is not None and c.prompt.are_boxes == are_boxes]
        if not rows:
            continue
        points = [replace(found, points_px=found.points_px - offset) for i in rows if (found := added[i]) is not None]
        first = Prompts(
            np.concatenate([candidates[i].prompt.coords_px for i in rows]) - offset.astype(np.float32),
            np.concatenate([candidates[i].prompt.labels for i in rows]),
            np.concatenate([candidates[i].prompt.confidence for i in rows]),
        )
        prompts = how.prompts(first, points)
        scored = candidates[rows[0]].mask_score is not None
        least = filters.min_iou if scored else min(candidates[i].predicted_iou for i in rows)
        decoded: DecodedMasks = yield Round(crop.photo, prompts, least, False if are_boxes else how.multimask)
        asked += len(prompts)
        decoded, scores = choose_masks(crop, prompts, decoded)
        number, alternative = decoded.index.unbind(1)
        qualities = (decoded.predicted_iou[number, alternative] if scores is None else scores).tolist()
        for row, (number, mask) in enumerate(decoded.index.tolist()):
            before = candidates[rows[number]]
            if mask != before.alternative or qualities[row] <= before.quality:
                continue
            one = DecodedMasks(decoded.predicted_iou, decoded.index[row : row + 1], decoded.logits[row : row + 1])
            passed, _ = select(crop, prompts, one, filters, None if scores is None else scores[row : row + 1])
            if passed:
                gain = qualities[row] - before.quality
                refined[rows[number]] = replace(passed[0], prompt=before.prompt, score=before.score + gain)
    return refined, asked
