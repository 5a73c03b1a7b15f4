"""Measure a promptable SAM with one point or box per ground-truth mask (`gt-point`, `gt-box`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from segment_anything.modeling import Sam
from torch.nn import functional as F

from aopsam.masks import rle
from aopsam.sam.encode import encode
from aopsam.sam.model import StretchedSam
from aopsam.training.annotated import Annotated
from aopsam.training.decode import CORNER_A, CORNER_B, PAD, POINT, Prompts, decode, window_pe


@torch.no_grad()
def prompted_iou(sam: Sam, photo: Annotated, kind: str = "point", chunk: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Measure the IoU of one prompt per mask, pre-processed as by the model's authors, at the photo's own resolution.

    Args:
        sam: in eval mode.
        photo: photo with M masks.
        kind: "point" (each mask's interior point) or "box" (each mask's bounding box).
        chunk: prompts decoded at once.

    Returns:
        (M, 3) true IoU of the three alternatives, and (M, 3) IoU estimates of the model.
    """
    encoded = encode(sam, photo.rgb)
    embedding, shown_px = encoded.embedding, encoded.input_hw
    pe = window_pe(sam, torch.zeros(1, 2, dtype=torch.int64), *embedding.shape[-2:])
    size = photo.rgb.shape[:2]
    scale = np.array([shown_px[1] / size[1], shown_px[0] / size[0]])
    truths = np.stack([rle.decode(mask) for mask in photo.rles])
    if kind == "box":
        xywh = np.array([rle.bbox_xywh(mask) for mask in photo.rles], dtype=np.float64)
        points, label = np.stack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1) * scale, [CORNER_A, CORNER_B]
    else:
        points = photo.points_px * scale
        points, label = np.stack([points, np.zeros_like(points)], axis=1), [POINT, PAD]
    ious, estimates = [], []
    for start in range(0, len(truths), chunk):
        part = torch.from_numpy(points[start : start + chunk]).float()
        count = len(part)
        prompts = Prompts(torch.zeros(count, dtype=torch.int64), part, torch.tensor([label] * count))
        logits, estimate = decode(sam, embedding, pe, prompts)
        if isinstance(sam, StretchedSam):
            masks = F.interpolate(logits[:, 1:], size, mode="bilinear", align_corners=False) > 0
        else:
            masks = sam.postprocess_masks(logits[:, 1:], shown_px, size) > 0
        truth = torch.from_numpy(truths[start : start + chunk]).unsqueeze(1)
        both = (masks & truth).sum((-1, -2)).float()
        ious.append(both / (masks | truth).sum((-1, -2)))
        estimates.append(estimate[:, 1:])
    return torch.cat(ious).numpy(), torch.cat(estimates).numpy()


def best_of_three(sam: Sam, photos: Sequence[Annotated], kind: str = "point") -> float:
    """Return the true IoU of the best alternative, mean over all masks of all photos."""
    return float(np.concatenate([prompted_iou(sam, photo, kind)[0].max(1) for photo in photos]).mean())
