"""Decode prompts of an encoded photo into mask logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from aopsam._as_loaded import as_loaded
from aopsam._side_by_side import side_by_side
from aopsam.sam.encode import SUBCELLS, EncodedPhoto
from aopsam.sam.fast_decoder import Made
from aopsam.sam.prompts import Prompts

PROMPTS_IN_CACHE = 16
"""Most prompts decoded at once on a CPU, so that their data mostly stays in its cache. Measured, see
benchmarks/LOG.md."""


@dataclass(frozen=True)
class DecodedMasks:
    """Masks decoded for N prompts, M masks each, of which K passed.

    Attributes:
        predicted_iou: (N, M) float32, the decoder's own estimate.
        index: (K, 2) int64, prompt and mask number of each mask that passed.
        logits: (K, r, c) float32 of the masks that passed, over the upper left part of the model's padded square that
            shows the photo (4 · `EncodedPhoto.mask_cells`).
    """

    predicted_iou: torch.Tensor
    index: torch.Tensor
    logits: torch.Tensor


@dataclass(frozen=True)
class Round:
    """Prompts of one photo that are to be decoded.

    Attributes:
        photo: the encoded photo.
        prompts: N points or N boxes, original pixels.
        min_iou: masks whose predicted IoU is not above it are not made.
        multimask: three masks a prompt or one; by default three for points and one for boxes.
    """

    photo: EncodedPhoto
    prompts: Prompts
    min_iou: float = -math.inf
    multimask: bool | None = None

    @property
    def several(self) -> bool:
        """Tell whether the decoder gives three masks a prompt."""
        return not self.prompts.are_boxes if self.multimask is None else self.multimask


@torch.inference_mode()
def decode_passing(
    photo: EncodedPhoto,
    prompts: Prompts,
    *,
    min_iou: float = -math.inf,
    points_per_batch: int = 64,
    multimask: bool | None = None,
) -> DecodedMasks:
    """Run SAM's prompt encoder and mask decoder on N prompts of one photo.

    Args:
        photo: the encoded photo.
        prompts: N points or N boxes, original pixels.
        min_iou: masks whose predicted IoU is not above it are not made.
        points_per_batch: prompts decoded at once at most; bounds memory.
        multimask: three masks a prompt or one; by default three for points and one for boxes (Kirillov et al. 2023).
    """
    with as_loaded(photo.model):
        return _decode(photo, prompts, min_iou, points_per_batch, multimask)


def _decode(
    photo: EncodedPhoto, prompts: Prompts, min_iou: float, points_per_batch: int, multimask: bool | None
) -> DecodedMasks:
    several = Round(photo, prompts, multimask=multimask).several
    _ = photo.decoder  # made here, before several threads ask for it

    @torch.inference_mode()
    def run(batch: Prompts) -> Made:
        (made,) = _run([Round(photo, batch, min_iou)], several)
        return made

    step, workers = _portion(photo, len(prompts), points_per_batch)
    while True:
        starts = range(0, len(prompts), step)
        try:
            made = side_by_side(run, [prompts[start : start + step] for start in starts], workers)
            break
        except RuntimeError as error:
            if step == 1 or not is_out_of_memory(error):
                raise
            step = max(1, min(step, len(prompts)) // 2)
    rows, columns = photo.mask_cells
    iou = [torch.zeros(0, 3 if several else 1, dtype=torch.float32)]
    index = [torch.zeros(0, 2, dtype=torch.int64)]
    logits = [torch.zeros(0, SUBCELLS * rows, SUBCELLS * columns, dtype=torch.float32)]
    for start, (scores, masks, passed) in zip(starts, made, strict=True):
        iou.append(scores.float())
        index.append(passed + torch.tensor([start, 0], device=passed.device))
        logits.append(masks)
    device = photo.embedding.device
    return DecodedMasks(*(torch.cat([part.to(device) for part in parts]) for parts in (iou, index, logits)))


def _portion(photo: EncodedPhoto, prompts: int, points_per_batch: int) -> tuple[int, int]:
    """Return how many prompts a run of the decoder takes, and how many runs go side by side: on a CPU as many as torch
    has threads, with equal portions, and no more prompts in all than `points_per_batch`."""
    most = _at_once(photo, points_per_batch)
    if photo.embedding.device.type != "cpu" or prompts <= most:
        return most, 1
    workers = min(torch.get_num_threads(), points_per_batch // most)
    rounds = math.ceil(prompts / (most * workers))
    return math.ceil(prompts / (rounds * workers)), workers


def best_of_each(decoded: DecodedMasks, quality: torch.Tensor) -> tuple[DecodedMasks, torch.Tensor]:
    """Return decoded masks without all but the best of each prompt, as if the decoder had given one: M is 1.

    Args:
        decoded: K masks that passed, of N prompts.
        quality: (K,) what tells the better of two; of equal ones the first is the better.

    Returns:
        The masks, whose `predicted_iou` is that of a prompt's best mask, or of the highest estimate where none passed;
        and (K',) the rows of those masks among the K.
    """
    number = decoded.index[:, 0]
    order = torch.sort(quality.to(number.device), descending=True, stable=True).indices
    order = order[torch.sort(number[order], stable=True).indices]
    is_first = torch.ones_like(order, dtype=torch.bool)
    is_first[1:] = number[order][1:] != number[order][:-1]
    rows = order[is_first]
    estimates = decoded.predicted_iou.amax(dim=1, keepdim=True)
    estimates[number[rows], 0] = decoded.predicted_iou[number[rows], decoded.index[rows, 1]]
    index = torch.stack([number[rows], torch.zeros_like(rows)], dim=1)
    return DecodedMasks(estimates, index, decoded.logits[rows]), rows


@torch.inference_mode()
def decode_together(rounds: Sequence[Round]) -> list[DecodedMasks]:
    """Run the prompt encoder and the mask decoder once on prompts of several photos, as `decode_passing` does on each.

    Each photo's masks are those that it has alone, up to rounding.

    Args:
        rounds: one of `decodable_together`'s groups.
    """
    with as_loaded(rounds[0].photo.model):
        made = _run(rounds, rounds[0].several)
    return [DecodedMasks(scores.float(), passed, masks) for scores, masks, passed in made]


def decodable_together(rounds: Sequence[Round], points_per_batch: int) -> list[list[int]]:
    """Group rounds, given by their places, so that each group is decoded at once: the same kind of prompts, as many
    masks of each, at most `points_per_batch` in all. A round of as many or more is a group of its own, and so is one
    without prompts."""
    groups: list[list[int]] = []
    open_groups: dict[tuple[bool, bool, int], tuple[list[int], int]] = {}
    for place, asked in enumerate(rounds):
        kind = asked.prompts.are_boxes, asked.several, asked.prompts.labels.shape[1]
        count = len(asked.prompts)
        most = _at_once(asked.photo, points_per_batch)
        group, room = open_groups.get(kind, ([], 0))
        if not count or count > room:
            group, room = [], most
            groups.append(group)
        group.append(place)
        if 0 < count < most:
            open_groups[kind] = group, room - count
    return groups


def _at_once(photo: EncodedPhoto, points_per_batch: int) -> int:
    on_cpu = photo.embedding.device.type == "cpu"
    return min(points_per_batch, PROMPTS_IN_CACHE) if on_cpu else points_per_batch


def _run(rounds: Sequence[Round], multimask: bool) -> list[Made]:
    """Run the prompt encoder and the mask decoder once on rounds of the same kind of prompts."""
    first = rounds[0].photo
    model, boxes = first.model, rounds[0].prompts.are_boxes
    coords = torch.cat([torch.from_numpy(asked.prompts.coords_px) * _scale(asked.photo) for asked in rounds])
    labels = torch.cat([torch.from_numpy(asked.prompts.labels) for asked in rounds]).to(model.device)
    coords = coords.to(model.device)
    if boxes:
        further = (coords[:, 2:], labels[:, 2:]) if coords.shape[1] > 2 else None
        sparse, _ = model.prompt_encoder(points=further, boxes=coords[:, :2].reshape(-1, 4), masks=None)
    else:  # the padding slot is segment-anything's own: it appends it where no box is given
        sparse, _ = model.prompt_encoder(points=(coords[:, :-1], labels[:, :-1]), boxes=None, masks=None)
    decoder = type(first.decoder).joined([asked.photo.decoder for asked in rounds])
    counts, least = [len(asked.prompts) for asked in rounds], [asked.min_iou for asked in rounds]
    return decoder(sparse.to(first.embedding), counts, multimask=multimask, min_iou=least)


def _scale(photo: EncodedPhoto) -> torch.Tensor:
    """Return pixels of the model's square per original pixel, (2,) XY float32."""
    height, width = photo.hw
    return torch.tensor([photo.input_hw[1] / width, photo.input_hw[0] / height], dtype=torch.float32)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Check whether an error is torch's failure to allocate: by its type on a GPU, by its text alone on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def decode_prompts(
    photo: EncodedPhoto, prompts: Prompts, *, points_per_batch: int = 64, multimask: bool | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode N prompts as `decode_passing` does, with every mask passing.

    Returns:
        Low-resolution logits (N, M, r, c) float32, as in `DecodedMasks`, and predicted IoU (N, M) float32.
    """
    decoded = decode_passing(photo, prompts, points_per_batch=points_per_batch, multimask=multimask)
    return decoded.logits.unflatten(0, decoded.predicted_iou.shape), decoded.predicted_iou


def upscale(photo: EncodedPhoto, low_res_logits: torch.Tensor) -> torch.Tensor:
    """Bring K low-resolution logits (K, r, c) to original pixels (K, H, W), as `Sam.postprocess_masks` does (or in one
    step where the model is a `StretchedSam`)."""
    size, shown = photo.enlarged
    rows, columns = (SUBCELLS * cells for cells in photo.embedding.shape[-2:])
    padding = (0, columns - low_res_logits.shape[-1], 0, rows - low_res_logits.shape[-2])
    square = functional.pad(low_res_logits, padding)[:, None]
    logits = functional.interpolate(square, (size, size), mode="bilinear", align_corners=False)
    logits = logits[..., : shown[0], : shown[1]]
    return functional.interpolate(logits, photo.hw, mode="bilinear", align_corners=False)[:, 0]


def masks_on_cells(photo: EncodedPhoto, low_res_logits: torch.Tensor) -> torch.Tensor:
    """Compute the share of each embedding cell that a mask covers.

    Averages by area, so that a mask smaller than a cell still has weight; cells of the padding count 0.

    Args:
        photo: the encoded photo.
        low_res_logits: (K, r, c), as in `DecodedMasks`.

    Returns:
        (K, rows, columns) float32 in [0, 1] over `photo.content_cells`.
    """
    rows, columns = photo.content_cells
    covered = (low_res_logits > photo.model.mask_threshold).float()
    size = photo.model.image_encoder.img_size
    content = [-(-side * SUBCELLS * photo.embedding.shape[-1] // size) for side in photo.input_hw]
    covered[:, content[0] :] = 0
    covered[:, :, content[1] :] = 0
    return functional.avg_pool2d(covered[:, None], SUBCELLS)[:, 0, :rows, :columns]  # 4-D: also where there is no mask


def inside_masks(
    photo: EncodedPhoto, low_res_logits: torch.Tensor, points_px: np.ndarray, logit: float
) -> torch.Tensor:
    """Return which points lie where the logits of masks are above a threshold.

    Args:
        photo: the encoded photo.
        low_res_logits: (K, r, c), as in `DecodedMasks`.
        points_px: (N, 2) XY, original pixels.
        logit: threshold of the logits.

    Returns:
        (K, N) bool.
    """
    height, width = photo.hw
    scale = SUBCELLS * photo.embedding.shape[-1] / photo.model.image_encoder.img_size
    shown = np.array([photo.input_hw[1] / width * scale, photo.input_hw[0] / height * scale])
    last = np.array(low_res_logits.shape[:0:-1]) - 1
    x, y = np.clip((points_px * shown).astype(np.int64), 0, last).T
    return low_res_logits[:, torch.from_numpy(y), torch.from_numpy(x)] > logit
