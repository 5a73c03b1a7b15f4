"""Draw decoded masks of a photo once more."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from aopsam._as_loaded import as_loaded
from aopsam.mask_head.crops import OUTSIDE, colours_of, look, put_back, regions
from aopsam.mask_head.network import MaskHead
from aopsam.sam.encode import SUBCELLS, EncodedPhoto, square_of

MASKS_AT_ONCE = 32
"""Masks whose maps are held at once, so that they stay in a CPU's cache."""


@torch.inference_mode()
def redraw(head: MaskHead, photo: EncodedPhoto, logits: torch.Tensor, prompts_px: torch.Tensor) -> torch.Tensor:
    """Draw K masks once more, each in its own box; a mask of which nothing would be left stays as it is.

    Args:
        head: of the SAM that encoded the photo.
        photo: the encoded photo.
        logits: (K, r, c), as in `aopsam.sam.decode.DecodedMasks`.
        prompts_px: (K, 2) x and y, the points that were the prompts, or (K, 4) XYXY, the boxes, in pixels of the photo.

    Returns:
        (K, r, c) float32 logits.

    Raises:
        ValueError: a photo without the features of `tiny`'s encoder.
    """
    if photo.features is None:
        raise ValueError("a mask head reads the encoder's features: encode the photo with aopsam.sam.encode.encode")
    threshold, (rows, columns) = photo.model.mask_threshold, logits.shape[1:]
    whole = [SUBCELLS * cells for cells in photo.embedding.shape[-2:]]
    padding = (0, whole[1] - columns, 0, whole[0] - rows)
    places = whole[1] / photo.model.image_encoder.img_size
    down, across = (places * shown / side for shown, side in zip(photo.input_hw, photo.hw, strict=True))
    scale = torch.tensor([across, down], device=logits.device, dtype=torch.float32)
    prompts = prompts_px.to(logits.device, torch.float32) * scale.repeat(prompts_px.shape[1] // 2)
    colours = colours_of(square_of(photo.model, photo.rgb)[0])
    drawn = [logits.new_zeros(0, rows, columns, dtype=torch.float32)]
    with as_loaded(head):
        features = head.project(photo.features.float())
        for start in range(0, len(logits), MASKS_AT_ONCE):
            some = slice(start, start + MASKS_AT_ONCE)
            before = F.pad(logits[some].float() - threshold, padding, value=OUTSIDE)
            parts = regions(before, prompts[some])
            seen = look(photo.embedding, features, colours, before, prompts[some], parts)
            after = put_back(head, before, head(seen), parts)
            left = (after > 0).flatten(1).any(1)[:, None, None]
            drawn.append(torch.where(left, after, before)[:, :rows, :columns] + threshold)
    return torch.cat(drawn)
