"""Removal of duplicate masks. To add a method: a function here or in another file, and a line in `DUPLICATES`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from aopsam.masks.mask_nms import mask_nms
from aopsam.masks.merge import merge_groups
from aopsam.masks.runs import Runs, union

Scores = npt.NDArray[np.float32]
Kept = list[tuple[int, Runs]]
"""Index of each mask that stays, with its pixels, by falling score."""


def by_box(masks: Sequence[Runs], scores: Scores, threshold: float) -> Kept:
    """Apply box NMS, as segment-anything: of masks whose boxes have an IoU above the threshold the best stays.

    The box of a mask one pixel wide or high has no area, and no IoU: of such masks that are equal the best stays.
    """
    import torch  # here, since command lines read the names below

    from aopsam._torchvision import torchvision

    boxes = torch.tensor([mask.box_xyxy_px for mask in masks]).view(-1, 4).float()
    kept: dict[object, tuple[int, Runs]] = {}
    for i in torchvision.ops.nms(boxes, torch.from_numpy(scores), threshold).tolist():
        x0, y0, x1, y1 = masks[i].box_xyxy_px
        is_thin = threshold < 1 and (x0 == x1 or y0 == y1)
        kept.setdefault((masks[i].starts.tobytes(), masks[i].stops.tobytes()) if is_thin else i, (i, masks[i]))
    return list(kept.values())


def by_mask(masks: Sequence[Runs], scores: Scores, threshold: float) -> Kept:
    """Apply mask NMS: of masks with an IoU above the threshold the best stays."""
    return [(i, masks[i]) for i in mask_nms(masks, scores, threshold).tolist()]


def merged(masks: Sequence[Runs], scores: Scores, threshold: float) -> Kept:
    """Merge masks that share more than the threshold of the smaller one; each union takes the place of its best."""
    groups = merge_groups(masks, threshold)
    members: dict[int, list[int]] = {}
    for i in np.argsort(-scores, kind="stable").tolist():
        members.setdefault(int(groups[i]), []).append(i)
    return [
        (group[0], masks[group[0]] if len(group) == 1 else union([masks[i] for i in group]))
        for group in members.values()
    ]


def all_kept(masks: Sequence[Runs], scores: Scores, threshold: float) -> Kept:
    """Keep every mask."""
    return [(i, masks[i]) for i in np.argsort(-scores, kind="stable").tolist()]


DUPLICATES: dict[str, Callable[[Sequence[Runs], Scores, float], Kept]] = {
    "box-nms": by_box,
    "mask-nms": by_mask,
    "merge": merged,
    "none": all_kept,
}
"""Name of a method -> function of N masks of one frame, their scores (N,) float32, and the method's threshold."""
