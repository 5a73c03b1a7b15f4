"""Make prompts of ground-truth masks and measure the masks that one SAM decodes from them."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from aopsam._as_loaded import as_loaded
from aopsam.everything.candidates import Candidate, Crop
from aopsam.everything.ledger import Ledger
from aopsam.everything.lock_step import Steps, in_lock_step
from aopsam.everything.options import GeneratorOptions
from aopsam.everything.rounds import PhotoRun
from aopsam.mask_head.redraw import redraw
from aopsam.mask_head.weights import find_mask_head
from aopsam.masks import rle
from aopsam.predictor.interior import interior_point
from aopsam.prompting.fates import Fates
from aopsam.sam.decode import decode_passing, upscale
from aopsam.sam.encode import EncodedPhoto
from aopsam.sam.prompts import Prompts
from aopsam.scoring.weights import find_scorer

_PIXELS_AT_ONCE = 2**23
"""Prompts × pixels, of the photo or the model's square, decoded at once: about 100 MiB of logits."""

Annotation = Mapping[str, Any]
"""A record of SA-1B's layout; `segmentation` is a COCO compressed RLE in original pixels."""


@dataclass(frozen=True)
class Answers:
    """Quality of the masks that a model gave for N prompts, one a ground-truth mask, three masks each.

    Attributes:
        iou: (N, 3) float64, IoU with the prompt's own ground-truth mask, at the photo's resolution.
        predicted_iou: (N, 3) float32, the model's estimate of the IoU.
        score: (N, 3) float32, the learned score; None if no scorer belongs to the model.
        seconds: time to decode to the photo's resolution; comparing with the ground truth is not counted.
    """

    iou: np.ndarray
    predicted_iou: np.ndarray
    score: np.ndarray | None
    seconds: float

    def chosen_by(self, values: np.ndarray) -> float | None:
        """Return the mean IoU of the masks of each prompt's highest value (N, 3); None without prompts."""
        chosen = self.iou[np.arange(len(self.iou)), values.argmax(axis=1)]
        return float(chosen.mean()) if len(chosen) else None


def usable_annotations(annotations: Sequence[Any], image_hw: tuple[int, int]) -> list[Annotation]:
    """Check the annotations of a photo; leave out those with an empty mask, which nothing could match.

    Raises:
        ValueError: an annotation without a well-formed RLE of the photo's size, or whose `point_coords` are no
            point; the message names which.
    """
    usable = []
    for index, annotation in enumerate(annotations):
        segmentation = annotation.get("segmentation")
        if not isinstance(segmentation, Mapping):
            raise ValueError(f"annotation {index}: segmentation must be a COCO RLE (size, counts)")
        try:
            area = rle.area(segmentation)
            _recorded_point(annotation)
        except ValueError as error:
            raise ValueError(f"annotation {index}: {error}") from error
        if tuple(segmentation["size"]) != image_hw:
            raise ValueError(f"annotation {index}: mask of {segmentation['size']} [h, w], photo of {list(image_hw)}")
        if area:
            usable.append(annotation)
    return usable


def point_prompts(annotations: Sequence[Annotation]) -> Prompts:
    """Make one point an annotation: its first `point_coords`, or the point deepest inside where it has none."""
    points = [_recorded_point(a) or interior_point(rle.decode(a["segmentation"])) for a in annotations]
    return Prompts.from_points(np.array(points, dtype=np.float32).reshape(-1, 2))


def two_point_prompts(annotations: Sequence[Annotation]) -> Prompts:
    """Make two points an annotation, drawn at random from its mask's pixels; the same mask has the same points.

    As Adaptive Mask Refinement begins (section XI-A of its paper). A mask of one pixel has that one twice.
    """
    points = np.zeros((len(annotations), 2, 2), np.float32)
    for place, annotation in enumerate(annotations):
        y, x = np.nonzero(rle.decode(annotation["segmentation"]))
        drawn = np.random.default_rng(zlib.crc32(str(annotation["segmentation"]["counts"]).encode()))
        chosen = drawn.choice(len(x), 2, replace=len(x) < 2)
        points[place] = np.stack([x[chosen], y[chosen]], axis=1)
    return Prompts.from_labelled_points(points, np.ones((len(points), 2)))


def box_prompts(annotations: Sequence[Annotation]) -> Prompts:
    """Make one box an annotation: tight around its mask, from the first pixel's near edge to the last's far edge."""
    boxes = np.array([rle.bbox_xywh(a["segmentation"]) for a in annotations], dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Prompts.from_boxes(boxes)


def answer(photo: EncodedPhoto, prompts: Prompts, annotations: Sequence[Annotation]) -> Answers:
    """Decode three masks for each prompt and compare them with the mask that the prompt was made from.

    Args:
        photo: the encoded photo.
        prompts: N, from `point_prompts` or `box_prompts`.
        annotations: the N that they were made from, as `usable_annotations` returned them.
    """
    ious, estimates, seconds = [np.zeros((0, 3))], [np.zeros((0, 3), np.float32)], 0.0
    scorer, scores = find_scorer(photo.model), [np.zeros((0, 3), np.float32)]
    head = find_mask_head(photo.model)
    pixels = max(photo.hw[0] * photo.hw[1], photo.model.image_encoder.img_size**2)
    step = max(1, min(64, _PIXELS_AT_ONCE // pixels))
    for start in range(0, len(prompts), step):
        part = slice(start, start + step)
        truth = torch.from_numpy(np.stack([rle.decode(a["segmentation"]) for a in annotations[part]]))[:, None]
        began = time.perf_counter()
        decoded = decode_passing(photo, prompts[part], multimask=True)
        drawn = None
        if head is not None:
            asked = prompts[part][decoded.index[:, 0].cpu().numpy()]
            drawn = redraw(head, photo, decoded.logits, torch.from_numpy(asked.places_px))
        masks = upscale(photo, decoded.logits if drawn is None else drawn) > photo.model.mask_threshold
        masks = masks.cpu().unflatten(0, (-1, 3))
        seconds += time.perf_counter() - began
        intersection, union = (masks & truth).sum((-1, -2)), (masks | truth).sum((-1, -2))
        ious.append((intersection / union).double().numpy())
        estimates.append(decoded.predicted_iou.cpu().numpy())
        if scorer is not None:
            scores.append(scorer.score(photo, prompts[part], decoded, drawn=drawn).unflatten(0, (-1, 3)).numpy())
    score = None if scorer is None else np.concatenate(scores)
    return Answers(np.concatenate(ious), np.concatenate(estimates), score, seconds)


def choose(photo: EncodedPhoto, prompts: Prompts, options: GeneratorOptions) -> tuple[list[Candidate | None], Ledger]:
    """Decode the mask that the model itself would choose for each of N prompts, and refine it if the options say so.

    Args:
        photo: the encoded photo.
        prompts: N points or boxes.
        options: `masks_per_prompt`, which must be 1, `single_mask` and those of refinement count; no mask is filtered.

    Returns:
        The mask of each prompt, None where the model made none; counts and times.
    """
    options = replace(options, pred_iou_thresh=0.0, stability_score_thresh=0.0)
    run = PhotoRun(options, photo.rgb, ledger := Ledger(photo.model.device, Fates()), photo)
    crop = Crop(photo, (0, 0, photo.hw[1], photo.hw[0]), photo.hw)
    numbered = replace(prompts, confidence=np.arange(len(prompts), dtype=np.float32))  # tells whose mask comes back

    def way() -> Steps[list[Candidate]]:
        decoded = yield from run.decode(crop, numbered, run.options.filters)
        found, _ = run.filter(crop, numbered, decoded, run.options.filters)
        if options.refine is not None:
            found = yield from run.ask_again(crop, found, run.options.filters)
        return found

    with torch.inference_mode(), as_loaded(photo.model):
        (outcome,) = in_lock_step(photo.model, [(ledger, way())], options.points_per_batch)
    if isinstance(outcome, Exception):
        raise outcome
    chosen: list[Candidate | None] = [None] * len(prompts)
    for candidate in outcome:
        chosen[int(candidate.prompt.confidence[0])] = candidate
    return chosen, ledger


def _recorded_point(annotation: Annotation) -> tuple[float, float] | None:
    points = annotation.get("point_coords")
    if not points:
        return None
    try:
        x, y = (float(value) for value in points[0])
    except (TypeError, ValueError, LookupError, OverflowError):
        raise ValueError(f"point_coords must be [[x, y]] in pixels, not {str(points)[:60]}") from None
    if not np.isfinite([x, y]).all():
        raise ValueError(f"point_coords must be finite, not {str(points)[:60]}")
    return x, y
