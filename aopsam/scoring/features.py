"""Measure masks for a scorer: 23 numbers each of low-resolution logits, shape, prompt, SAM's estimate, the things that
lie there, and of a mask drawn once more how much it changed."""

from __future__ import annotations

import torch

from aopsam.sam.decode import DecodedMasks
from aopsam.sam.encode import SUBCELLS, EncodedPhoto
from aopsam.sam.prompts import Prompts
from aopsam.sam.things import Things

FEATURES = (
    *("estimate", "stable_half", "stable_one", "stable_two"),
    *("side", "log_area", "of_box", "compactness", "width", "height", "at_border"),
    *("sure_inside", "sure_outside", "mean_inside", "unsure"),
    *("off_centre", "fills_box", "is_thing", "in_thing", "around_thing"),
    *("is_box", "is_drawn", "unchanged"),
)
"""Names of the numbers of a mask, in order; logits count in units of the model's own scale."""

MASKS_AT_ONCE = 16
"""Masks whose maps are held at once, so that they stay in a CPU's cache."""
SUREST = 16.0
"""Logits beyond it say no more."""


def mask_features(
    photo: EncodedPhoto, prompts: Prompts, decoded: DecodedMasks, drawn: torch.Tensor | None = None
) -> torch.Tensor:
    """Measure the K decoded masks of a photo, or what a mask head made of them.

    Args:
        photo: the encoded photo.
        prompts: the N prompts that were decoded.
        decoded: their masks.
        drawn: (K, r, c) logits of those masks drawn once more, which are measured then.

    Returns:
        (K, len(FEATURES)) float32, on the device of the logits.
    """
    rows, columns = shown_on_maps(photo)
    threshold = photo.model.mask_threshold
    before = decoded.logits[:, :rows, :columns].float() - threshold
    logits = before if drawn is None else drawn[:, :rows, :columns].float() - threshold
    device = logits.device
    number, alternative = decoded.index.unbind(1)
    estimates = decoded.predicted_iou.to(device)[number, alternative].float()
    scale = torch.tensor([columns / photo.hw[1], rows / photo.hw[0]])
    coords = (torch.from_numpy(prompts.coords_px[:, :2]) * scale).to(device)[number]
    things = Things(torch.zeros(0, 4), torch.zeros(0)) if photo.things is None else photo.things
    things = Things((things.boxes_px * scale.repeat(2)).to(device), things.scores.to(device))
    parts = [
        _of_maps(some, place, prompts.are_boxes, things)
        for some, place in zip(logits.split(MASKS_AT_ONCE), coords.split(MASKS_AT_ONCE), strict=True)
    ]
    shape = torch.cat(parts) if parts else logits.new_zeros(0, len(FEATURES) - 4)
    same = torch.ones_like(estimates) if drawn is None else _iou(before > 0, logits > 0)
    flags = (torch.full_like(estimates, flag) for flag in (prompts.are_boxes, drawn is not None))
    return torch.stack([estimates, *shape.unbind(1), *flags, same], dim=1).float()


def shown_on_maps(photo: EncodedPhoto) -> tuple[int, int]:
    """Return rows and columns of low-resolution masks that show the photo, not its padding."""
    size = photo.model.image_encoder.img_size
    rows, columns = (
        max(1, round(side * SUBCELLS * cells / size))
        for side, cells in zip(photo.input_hw, photo.embedding.shape[-2:], strict=True)
    )
    return rows, columns


def _of_maps(logits: torch.Tensor, coords: torch.Tensor, are_boxes: bool, things: Things) -> torch.Tensor:
    """Measure the maps of K masks (K, h, w) of prompts at (K, 2, 2) XY: FEATURES from `stable_half` to
    `around_thing`. Boxes of things are in places of the maps, too."""
    height, width = logits.shape[1:]
    filled = logits > 0
    mask, around = filled.float(), (_grown(filled) & ~filled).float()
    area, perimeter = mask.sum((1, 2)), (_grown(~filled) & filled).sum((1, 2)).float()
    some = area.clamp_min(1)
    (left, right), (top, bottom) = _ends(filled.any(1).float()), _ends(filled.any(2).float())
    wide, high = right - left, bottom - top
    at_border = mask[:, 0].sum(1) + mask[:, -1].sum(1) + mask[:, 1:-1, 0].sum(1) + mask[:, 1:-1, -1].sum(1)
    sure = logits.abs().clamp_max(SUREST)
    centre_x = (mask.sum(1) @ torch.arange(width, device=mask.device).float()) / some
    centre_y = (mask.sum(2) @ torch.arange(height, device=mask.device).float()) / some
    place = coords.mean(1) if are_boxes else coords[:, 0]
    asked = (coords[:, 1] - coords[:, 0]).prod(1).clamp_min(1) if are_boxes else torch.ones_like(area)
    return torch.stack(
        [
            *((logits > by).sum((1, 2)) / (logits > -by).sum((1, 2)).clamp_min(1) for by in (0.5, 1.0, 2.0)),
            (area / (height * width)).sqrt(),
            (area + 1).log(),
            area / (wide * high).clamp_min(1),
            4 * torch.pi * area / (perimeter.square() + 1),
            wide / width,
            high / height,
            at_border / (perimeter + at_border).clamp_min(1),
            (sure * mask).sum((1, 2)) / some,
            (sure * around).sum((1, 2)) / around.sum((1, 2)).clamp_min(1),
            (logits.sigmoid() * mask).sum((1, 2)) / some,
            (logits.abs() < 1).sum((1, 2)) / some,
            ((centre_x - place[:, 0]).square() + (centre_y - place[:, 1]).square()).sqrt() / some.sqrt(),
            are_boxes * area / asked,
            *_on_things(torch.stack([left, top, right, bottom], dim=1), things),
        ],
        dim=1,
    )


def _on_things(boxes: torch.Tensor, things: Things) -> list[torch.Tensor]:
    """Compare the boxes (K, 4) of masks with those of things: the most, of all things, of a thing's score times the IoU
    of both boxes, times the share of the mask's that lies in the thing's, and times that of the thing's in the mask's;
    (K,) each."""
    if not len(things.scores):
        return [torch.zeros_like(boxes[:, 0])] * 3
    low = torch.maximum(boxes[:, None, :2], things.boxes_px[:, :2])
    high = torch.minimum(boxes[:, None, 2:], things.boxes_px[:, 2:])
    both = (high - low).clamp_min(0).prod(2)
    own, others = ((sides[:, 2:] - sides[:, :2]).prod(1).clamp_min(1) for sides in (boxes, things.boxes_px))
    shares = both / (own[:, None] + others - both), both / own[:, None], both / others
    return [(share * things.scores).amax(1) for share in shares]


def _iou(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the IoU (K,) of K masks with K others, all (K, h, w) bool; 0 of two that are empty."""
    return (left & right).sum((1, 2)) / (left | right).sum((1, 2)).clamp_min(1)


def _grown(mask: torch.Tensor) -> torch.Tensor:
    """Dilate masks (K, h, w) bool by 3 x 3."""
    wide = mask.clone()
    wide[:, :, 1:] |= mask[:, :, :-1]
    wide[:, :, :-1] |= mask[:, :, 1:]
    grown = wide.clone()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    return grown


def _ends(covered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return first and last + 1 place of (K, n) flags; 0 and 0 where there is none."""
    some = covered.amax(1)
    first, last = covered.argmax(1), covered.shape[1] - covered.flip(1).argmax(1)
    return first * some, last * some
