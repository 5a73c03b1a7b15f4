"""Assign objects to a detector's predictions for training: those whose prior boxes overlap most with the object's."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aopsam._torchvision import torchvision
from aopsam.detector.network import ASPECTS, Level, priors

NEAR = 16
"""Predictions per object: those whose priors have the highest IoU with its box (compare ATSS, Zhang et al. 2020)."""


@dataclass(frozen=True)
class Assignment:
    """Objects that are assigned to P of a photo's predictions.

    Attributes:
        answers: (P,) int64 numbers of the predictions.
        objects: (P,) int64, object of each.
        iou: (P,) IoU of the predicted box with that object's.
    """

    answers: torch.Tensor
    objects: torch.Tensor
    iou: torch.Tensor


def near_priors(boxes_xyxy: torch.Tensor, levels: list[Level]) -> torch.Tensor:
    """Return the numbers of the priors with the highest IoU with each of G boxes in cells: (G, NEAR) int64.

    Only the nine positions around a box's centre are compared on each level; on a level whose priors fit the box no
    other position has a higher IoU.
    """
    device = boxes_xyxy.device
    centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    around = torch.stack(torch.meshgrid(*[torch.arange(-1, 2, device=device)] * 2, indexing="ij"), -1).reshape(-1, 2)
    found = []
    for level in levels:
        place = (centre / level.step).long()[:, None] + around
        last = torch.tensor([level.columns - 1, level.rows - 1], device=device)
        outside = ((place < 0) | (place > last)).any(-1)
        place = torch.minimum(place.clamp_min(0), last)
        first = level.start + (place[..., 1] * level.columns + place[..., 0]) * len(ASPECTS)
        numbers = first[..., None] + torch.arange(len(ASPECTS), device=device)
        found.append(torch.where(outside[..., None], -1, numbers).flatten(1))
    numbers = torch.cat(found, dim=1)
    at = torchvision.ops.box_convert(priors(levels, device)[numbers.clamp_min(0)], "cxcywh", "xyxy")
    iou = pair_iou(at, boxes_xyxy[:, None]).masked_fill(numbers < 0, -1)
    best = iou.topk(min(NEAR, iou.shape[1]), dim=1)
    return numbers.gather(1, best.indices)


def assign(boxes: torch.Tensor, objects_xyxy: torch.Tensor, near: torch.Tensor) -> Assignment:
    """Assign G objects of one photo to predictions; a prediction near several gets the one of the highest IoU.

    Args:
        boxes: (N, 4) predicted XYXY in cells.
        objects_xyxy: (G, 4) in cells.
        near: (G, NEAR) from `near_priors`.
    """
    iou = pair_iou(boxes[near], objects_xyxy[:, None]).flatten()
    answers = near.flatten()
    objects = torch.arange(len(near), device=near.device).repeat_interleave(near.shape[1])
    best = torch.full((len(boxes),), -1.0, device=iou.device).scatter_reduce(0, answers, iou, "amax")
    alike = iou == best[answers]
    owner = torch.full((len(boxes),), -1, device=near.device)
    owner = owner.scatter_reduce(0, answers[alike], objects[alike], "amax")
    taught = torch.nonzero(owner >= 0)[:, 0]
    return Assignment(taught, owner[taught], best[taught])


def pair_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the IoU (...) of boxes (..., 4) XYXY with boxes (..., 4), pair by pair."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    both = (high - low).clamp_min(0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return both / (areas - both).clamp_min(1e-9)
