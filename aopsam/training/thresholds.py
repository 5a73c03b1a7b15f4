"""Choose the thresholds of everything mode from a model's own scores on training photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from segment_anything.modeling import Sam

from aopsam.masks.nms import box_nms
from aopsam.masks.stability import stability_score
from aopsam.sam.encode import encode
from aopsam.training.annotated import Annotated
from aopsam.training.decode import PAD, POINT, Prompts, decode, window_pe

GRID = 16
"""Points of the grid along each side of the photo."""
UNSTABLE_SHARE = 0.1
"""Share of a grid's masks, the least stable ones, that the stability threshold drops."""
BOX_NMS = 0.7
"""IoU threshold of non-maximum suppression: segment-anything's, which does not depend on a model's scores."""


def choose_thresholds(sam: Sam, photos: Sequence[Annotated], masks_a_photo: int = 200) -> dict[str, str]:
    """Choose thresholds with which a 16 x 16 grid keeps about `masks_a_photo` masks of the median photo.

    A small model's IoU estimates are far below the published models' threshold of 0.88, so the number of masks decides:
    the stability threshold drops the least stable tenth of all masks, and the threshold on the predicted IoU leaves the
    wanted number after non-maximum suppression (on low-resolution masks).

    Args:
        sam: in eval mode.
        photos: training photos; none that the model is evaluated on.
        masks_a_photo: wanted number of masks; a photo of BSDS500 has 65 annotated masks, and a strategy that decodes
            fewer prompts keeps fewer.

    Returns:
        `pred_iou_thresh`, `stability_score_thresh` and `box_nms_thresh` as text with three decimals.
    """
    scored = [_score_grid(sam, photo) for photo in photos]
    stable = float(torch.quantile(torch.cat([stability for _, _, stability in scored]), UNSTABLE_SHARE))
    cuts = []
    for boxes, estimates, stability in scored:
        keep = stability >= stable
        kept = estimates[keep][box_nms(boxes[keep], estimates[keep], BOX_NMS)].sort(descending=True).values
        cuts.append(float(kept[min(masks_a_photo, len(kept)) - 1]) if len(kept) else 0.0)
    # Rounded down; rounded up, the masks exactly at the threshold would be dropped.
    values = {"pred_iou_thresh": np.median(cuts), "stability_score_thresh": stable, "box_nms_thresh": BOX_NMS}
    return {name: f"{np.floor(value * 1000 + 1e-9) / 1000:.3f}" for name, value in values.items()}


@torch.no_grad()
def _score_grid(sam: Sam, photo: Annotated) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return boxes (K, 4) XYXY in low-resolution pixels, IoU estimates (K,) and stability (K,) of a grid's masks."""
    encoded = encode(sam, photo.rgb)
    embedding, (height, width) = encoded.embedding, encoded.input_hw
    pe = window_pe(sam, torch.zeros(1, 2, dtype=torch.int64), *embedding.shape[-2:])
    centres = (torch.arange(GRID) + 0.5) / GRID
    points = torch.stack([(centres * width).repeat(GRID), (centres * height).repeat_interleave(GRID)], dim=1)
    boxes, scores, stabilities = [], [], []
    for part in points.split(64):
        prompts = Prompts(
            torch.zeros(len(part), dtype=torch.int64),
            torch.stack([part, torch.zeros_like(part)], dim=1),
            torch.tensor([[POINT, PAD]] * len(part)),
        )
        logits, estimates = decode(sam, embedding, pe, prompts)
        # A quarter of the frame's resolution; only the photo counts, not its padding.
        masks = logits[:, 1:, : -(-height // 4), : -(-width // 4)].flatten(0, 1)
        filled = (masks > 0).flatten(1).any(1)
        masks = masks[filled]
        boxes.append(low_resolution_boxes(masks > 0))
        scores.append(estimates[:, 1:].flatten()[filled])
        stabilities.append(stability_score(masks, 0.0, 1.0))
    return torch.cat(boxes), torch.cat(scores), torch.cat(stabilities)


def low_resolution_boxes(masks: torch.Tensor) -> torch.Tensor:
    """Return (K, 4) float XYXY of the outermost pixels of non-empty masks (K, H, W)."""
    columns, rows = masks.any(1).float(), masks.any(2).float()
    right = masks.shape[2] - 1 - columns.flip(1).argmax(1)
    bottom = masks.shape[1] - 1 - rows.flip(1).argmax(1)
    return torch.stack([columns.argmax(1), rows.argmax(1), right, bottom], dim=1).float()
