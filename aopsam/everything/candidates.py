"""Masks on their way from the decoder to a record: SAM's filters, and what is done to those that passed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from segment_anything.utils.amg import is_box_near_crop_edge

from aopsam.mask_head.network import MaskHead
from aopsam.mask_head.redraw import redraw
from aopsam.masks.full_size import trace_full_size
from aopsam.masks.nesting import flattened, wholes
from aopsam.masks.overlap import agreement
from aopsam.masks.runs import Runs, union
from aopsam.masks.trace import Traced, trace
from aopsam.sam.decode import DecodedMasks, upscale
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from aopsam.scoring.network import MaskScorer

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
        mask_score: the learned score; None without a scorer.
        score: by which the better of two is told; the learned score, else the predicted IoU, in tiles weighted by
            agreement.
        crop_xyxy_px: the part of the photo that the model saw.
        logits: (r, c) float16, as in `DecodedMasks`; None unless the crop keeps them, and of what was drawn otherwise.
    """

    runs: Runs
    predicted_iou: float
    stability: float
    prompt: Prompts
    alternative: int
    mask_score: float | None
    score: float
    crop_xyxy_px: BoxXYXY
    logits: torch.Tensor | None = None

    @property
    def quality(self) -> float:
        """The learned score, or the predicted IoU without one."""
        return self.predicted_iou if self.mask_score is None else self.mask_score


@dataclass(frozen=True)
class Filters:
    """Thresholds that a mask must pass, as in segment-anything.

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
        """Least predicted IoU for the decoder; minus infinity where all pass."""
        return self.pred_iou if self.pred_iou > 0 else -math.inf


@dataclass(frozen=True)
class Crop:
    """A part of a photo, encoded.

    Attributes:
        photo: the part, as the model sees it.
        xyxy_px: where it lies, right and bottom excluded.
        full_hw: rows and columns of the whole photo.
        keeps_logits: whether its masks keep their logits, to be drawn once more.
    """

    photo: EncodedPhoto
    xyxy_px: BoxXYXY
    full_hw: tuple[int, int]
    keeps_logits: bool = False


def near_inner_border(boxes_xyxy_px: torch.Tensor, crop_xyxy_px: BoxXYXY, full_hw: tuple[int, int]) -> torch.Tensor:
    """Return (K,) bool: which boxes (K, 4) of a crop come within 20 px of a border that is not the photo's."""
    return is_box_near_crop_edge(boxes_xyxy_px, list(crop_xyxy_px), [0, 0, full_hw[1], full_hw[0]])


def select(
    crop: Crop, prompts: Prompts, decoded: DecodedMasks, filters: Filters, mask_scores: torch.Tensor | None = None
) -> tuple[list[Candidate], torch.Tensor]:
    """Return the decoded masks that pass all filters, and (K,) bool: which of the K decoded masks are stable.

    Those without a pixel of the photo go, whatever the thresholds.

    Args:
        crop: where they were decoded.
        prompts: that they answer.
        decoded: the K masks.
        filters: what they must pass.
        mask_scores: (K,) their learned scores, if there is a scorer.
    """
    traced = _trace(crop.photo, decoded.logits, filters)
    stable = torch.tensor([bool(found.runs and found.runs.area) for found in traced], dtype=torch.bool)
    boxes = torch.tensor([found.runs.box_xyxy_px for found in traced if found.runs and found.runs.area]).view(-1, 4)
    inside = ~near_inner_border(boxes, crop.xyxy_px, crop.full_hw) | filters.cut
    offset = np.array(crop.xyxy_px[:2], np.float32)
    rows = np.flatnonzero(stable.numpy())[inside.numpy()]
    index, scores = decoded.index.tolist(), decoded.predicted_iou.tolist()
    candidates: list[Candidate] = []
    for row in rows.tolist():
        runs = traced[row].runs
        assert runs is not None
        prompt, mask = index[row]
        asked = prompts[prompt : prompt + 1]
        mask_score = None if mask_scores is None else float(mask_scores[row])
        candidates.append(
            Candidate(
                runs.placed(*crop.xyxy_px[:2], crop.full_hw),
                scores[prompt][mask],
                traced[row].stability,
                Prompts(asked.coords_px + offset, asked.labels, asked.confidence),
                mask,
                mask_score,
                scores[prompt][mask] if mask_score is None else mask_score,
                crop.xyxy_px,
                decoded.logits[row].half() if crop.keeps_logits else None,
            )
        )
    return candidates, stable.to(decoded.logits.device)


def redrawn(
    crop: Crop, candidates: Sequence[Candidate], head: MaskHead, filters: Filters, scorer: MaskScorer | None = None
) -> list[Candidate]:
    """Return masks of a crop as a mask head draws them; as they are those without logits, and those that would vanish
    or be cut by an inner border of the crop.

    Args:
        crop: where they were found.
        candidates: the masks.
        head: of the SAM that decoded them.
        filters: whether cut masks pass, and the offset of the new stability scores; the thresholds filter nothing.
        scorer: scores them again, if they rank by a score.
    """
    drawn = list(candidates)
    x0, y0, x1, y1 = crop.xyxy_px
    uncut = filters.cut or (x1 - x0, y1 - y0) == crop.full_hw[::-1]
    for are_boxes in (False, True):
        rows = [i for i, c in enumerate(candidates) if c.logits is not None and c.prompt.are_boxes == are_boxes]
        if not rows:
            continue
        logits = torch.stack([logits for i in rows if (logits := candidates[i].logits) is not None])
        asked = np.concatenate([candidates[i].prompt.places_px for i in rows])
        asked = asked - np.array([x0, y0] * (asked.shape[1] // 2), np.float32)
        after = redraw(head, crop.photo, logits, torch.from_numpy(asked))
        scores: list[float | None] = [None] * len(rows)
        if scorer is not None:
            prompts = Prompts.from_boxes(asked) if are_boxes else Prompts.from_points(asked)
            estimates = torch.tensor([[candidates[row].predicted_iou] for row in rows], dtype=torch.float32)
            one_each = DecodedMasks(estimates, torch.tensor([[k, 0] for k in range(len(rows))]), logits)
            scores = scorer.score(crop.photo, prompts, one_each, anywhere=True, drawn=after).tolist()
        traced = _trace(crop.photo, after, replace(filters, stability=0.0))
        for row, found, score in zip(rows, traced, scores, strict=True):
            if not found.runs or not found.runs.area:
                continue
            box = torch.tensor([found.runs.box_xyxy_px])
            if uncut or not near_inner_border(box, crop.xyxy_px, crop.full_hw).any():
                runs = found.runs.placed(x0, y0, crop.full_hw)
                drawn[row] = replace(_scored(candidates[row], score), runs=runs, stability=found.stability, logits=None)
    return drawn


def _scored(candidate: Candidate, mask_score: float | None) -> Candidate:
    """Return a mask with another learned score, if there is one; what tiles made of the old is made of it as well."""
    if mask_score is None or candidate.mask_score is None:
        return candidate
    by = candidate.score / candidate.mask_score if candidate.mask_score else 1.0
    return replace(candidate, mask_score=mask_score, score=mask_score * by)


def scored_by_agreement(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Score each mask by its score · √(number of masks of the crop that are nearly the same).

    So seams join what many prompts found.

    Ours; see benchmarks/LOG.md.
    """
    counts = agreement([candidate.runs for candidate in candidates]).tolist()
    return [replace(c, score=c.score * count**0.5) for c, count in zip(candidates, counts, strict=True)]


def join_pieces(pieces: Sequence[Candidate]) -> Candidate:
    """Join pieces of one object: prompt of the largest, estimates averaged by area, the box around their tiles."""
    if len(pieces) == 1:
        return pieces[0]
    weights = [piece.runs.area for piece in pieces]
    mask_scores = [piece.mask_score for piece in pieces if piece.mask_score is not None]
    boxes = np.array([piece.crop_xyxy_px for piece in pieces])
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    return Candidate(
        union([piece.runs for piece in pieces]),
        float(np.average([piece.predicted_iou for piece in pieces], weights=weights)),
        float(np.average([piece.stability for piece in pieces], weights=weights)),
        pieces[int(np.argmax(weights))].prompt,
        pieces[int(np.argmax(weights))].alternative,
        float(np.average(mask_scores, weights=weights)) if mask_scores else None,
        float(np.average([piece.score for piece in pieces], weights=weights)),
        (x0, y0, x1, y1),
    )


def whole(candidates: Sequence[Candidate], dropped: Counter[str]) -> list[Candidate]:
    """Leave out parts of larger masks that are about as good; count them in `dropped`."""
    scores = np.array([candidate.quality for candidate in candidates], np.float64)
    kept = wholes([candidate.runs for candidate in candidates], scores)
    dropped["part of a larger mask"] += len(candidates) - len(kept)
    return [candidates[i] for i in kept]


def flat(candidates: Sequence[Candidate], dropped: Counter[str]) -> list[Candidate]:
    """Leave each pixel to one mask; count in `dropped` the masks of which nothing is left."""
    trimmed = [
        replace(candidate, runs=runs)
        for candidate, runs in zip(candidates, flattened([c.runs for c in candidates]), strict=True)
    ]
    left = [candidate for candidate in trimmed if candidate.runs.area]
    dropped["covered by smaller masks"] += len(trimmed) - len(left)
    return left


def _trace(photo: EncodedPhoto, logits: torch.Tensor, filters: Filters) -> list[Traced]:
    """Return stability and runs of K masks; a GPU is quicker at making them at full size, a few at a time."""
    settings = {
        "threshold": photo.model.mask_threshold,
        "offset": filters.stability_offset,
        "least_stability": filters.stability,
    }
    if logits.device.type == "cpu":
        return trace(logits, photo.resampling, **settings)
    step = max(1, FULL_SIZE_BUDGET // (photo.hw[0] * photo.hw[1]))
    return [found for some in logits.split(step) for found in trace_full_size(upscale(photo, some), **settings)]
