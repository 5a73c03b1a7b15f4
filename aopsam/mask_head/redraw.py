"""Draw decoded masks of a photo once more, and judge them."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from aopsam._as_loaded import as_loaded
from aopsam.mask_head.crops import OUTSIDE, look, put_back, regions
from aopsam.mask_head.network import MaskHead
from aopsam.sam.encode import SUBCELLS, EncodedPhoto
from aopsam.sam.prompts import Prompts

MASKS_AT_ONCE = 32
"""Masks whose maps are held at once, so that they stay in a CPU's cache."""


@torch.inference_mode()
def redraw(
    head: MaskHead, photo: EncodedPhoto, prompts: Prompts, logits: torch.Tensor, predicted_iou: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw K masks once more, each in its own box; a mask of which nothing would be left stays as it is.

    Args:
        head: of the SAM that encoded the photo.
        photo: the encoded photo.
        prompts: K, one for each mask, in pixels of the photo.
        logits: (K, r, c), as in `aopsam.sam.decode.DecodedMasks`.
        predicted_iou: (K,), the decoder's estimates.

    Returns:
        Logits (K, r, c) and the head's own estimates of the IoU (K,), float32 both.
    """
    threshold, (rows, columns), boxes = photo.model.mask_threshold, logits.shape[1:], prompts.are_boxes
    whole = [SUBCELLS * cells for cells in photo.embedding.shape[-2:]]
    padding = (0, whole[1] - columns, 0, whole[0] - rows)
    places = whole[1] / photo.model.image_encoder.img_size
    down, across = (places * shown / side for shown, side in zip(photo.input_hw, photo.hw, strict=True))
    scale = torch.tensor([across, down] * 2, dtype=torch.float32)
    asked = (torch.from_numpy(prompts.coords_px[:, :2].reshape(-1, 4)) * scale).to(logits.device)
    drawn = [logits.new_zeros(0, rows, columns, dtype=torch.float32)]
    judged = [logits.new_zeros(0, dtype=torch.float32)]
    with as_loaded(head):
        for start in range(0, len(logits), MASKS_AT_ONCE):
            some = slice(start, start + MASKS_AT_ONCE)
            before = F.pad(logits[some].float() - threshold, padding, value=OUTSIDE)
            parts = regions(before, asked[some], boxes)
            change, iou = head(*look(photo.embedding, before, predicted_iou[some], asked[some], boxes, parts))
            after = put_back(head, before, change, parts)
            left = (after > 0).flatten(1).any(1)[:, None, None]
            drawn.append(torch.where(left, after, before)[:, :rows, :columns] + threshold)
            judged.append(iou)
    return torch.cat(drawn), torch.cat(judged)
