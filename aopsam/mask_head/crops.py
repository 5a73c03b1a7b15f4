"""Cut boxes of masks out of an embedding, of low-resolution logits and of the photo; put what was drawn in them back.

Coordinates are low-resolution logits: four to a cell of the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from aopsam.mask_head.network import COARSE, SIDE, MaskHead, Seen
from aopsam.sam.encode import SUBCELLS
from aopsam.sam.encoders.tiny import CONTEXT, descriptors

AROUND_MASK, AROUND_BOX = 1.5, 1.25
"""Sides of what the head sees, in sides of the mask's own box, and of the box that was the prompt."""
LEAST = 4.0
"""Shortest side of a box before that."""
COLOURS_A_PLACE = 2
"""Rows and columns of colours to a low-resolution logit."""
OUTSIDE = -10.0
"""Logit outside what the head sees, and outside the photo."""


def regions(logits: Tensor, prompts: Tensor) -> Tensor:
    """Return the part of the photo that the head sees of each of K masks, (K, 4) XYXY.

    Args:
        logits: (K, r, c) of the decoder; those without a place above 0 give a region at the upper left.
        prompts: (K, 4) XYXY, the boxes that were the prompts, or (K, 2), the points.
    """
    if prompts.shape[1] == 4:
        boxes, around = prompts, AROUND_BOX
    else:
        across, down = (logits > 0).any(1), (logits > 0).any(2)
        (left, right), (top, bottom) = _ends(across), _ends(down)
        boxes, around = torch.stack([left, top, right, bottom], dim=1), AROUND_MASK
    size = (boxes[:, 2:] - boxes[:, :2]).clamp_min(LEAST) * around
    centre = (boxes[:, 2:] + boxes[:, :2]) / 2
    return torch.cat([centre - size / 2, centre + size / 2], dim=1)


def _ends(covered: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first place and the end (K,) of (K, n) flags."""
    flags = covered.float()
    return flags.argmax(1).float(), flags.shape[1] - flags.flip(1).argmax(1).float()


def cut(maps: Tensor, parts: Tensor, side: int, cells: float = 1, padding: str = "zeros") -> Tensor:
    """Sample a part of each of K maps, bilinearly: (K, C, h, w), or (1, C, h, w) for all, -> (K, C, side, side).

    Args:
        maps: the maps.
        parts: (K, 4) XYXY.
        side: rows and columns of the result.
        cells: of the coordinates to a place of the maps.
        padding: of `grid_sample`.
    """
    height, width = (cells * extent for extent in maps.shape[-2:])
    along = (torch.arange(side, device=parts.device, dtype=torch.float32) + 0.5) / side
    x = (parts[:, :1] + along * (parts[:, 2:3] - parts[:, :1])) / width * 2 - 1
    y = (parts[:, 1:2] + along * (parts[:, 3:4] - parts[:, 1:2])) / height * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], dim=-1)
    if len(maps) == len(parts):
        return F.grid_sample(maps, grid, padding_mode=padding, align_corners=False)
    tall = grid.reshape(1, -1, side, 2)
    sampled = F.grid_sample(maps, tall, padding_mode=padding, align_corners=False)
    return sampled[0].unflatten(1, (-1, side)).transpose(0, 1)


def box_maps(prompts: Tensor, parts: Tensor) -> Tensor:
    """Return (K, 2, SIDE, SIDE): where the boxes that were the prompts lie, and ones; zeros for points."""
    if prompts.shape[1] == 2:
        return parts.new_zeros(len(parts), 2, SIDE, SIDE)
    along = (torch.arange(SIDE, device=parts.device, dtype=torch.float32) + 0.5) / SIDE
    inside = []
    for first, end in (0, 2), (1, 3):
        place = parts[:, first, None] + along * (parts[:, end, None] - parts[:, first, None])
        inside.append(((place >= prompts[:, first, None]) & (place <= prompts[:, end, None])).float())
    across, down = inside
    return torch.stack([down[:, :, None] * across[:, None], parts.new_ones(len(parts), SIDE, SIDE)], dim=1)


def colours_of(squares: Tensor) -> Tensor:
    """Return the colours that the head sees, (B, 3, S / 2, S / 2), of squares (B, 3, S, S) as `tiny`'s encoder reads
    them."""
    return F.avg_pool2d(squares.float(), 2)


def look(embedding: Tensor, features: Tensor, colours: Tensor, logits: Tensor, prompts: Tensor, parts: Tensor) -> Seen:
    """Return what the head sees of K masks of one photo.

    Args:
        embedding: (1, 256, h, w) of `tiny`.
        features: (1, OF_FEATURES, 4h, 4w) of its encoder, as `MaskHead.project` returns them.
        colours: (1, 3, 8h, 8w) of `colours_of`.
        logits: (K, 4h, 4w) float32 of the decoder.
        prompts: (K, 2) or (K, 4), as `regions` takes them.
        parts: (K, 4) XYXY, as `regions` returns them.
    """
    first, second = embedding.float().chunk(2, dim=1)
    context = torch.cat([first[:, : CONTEXT // 2], second[:, : CONTEXT // 2]], dim=1)
    extent = parts[:, 2:] - parts[:, :2]
    point = (prompts - parts[:, :2]) / extent if prompts.shape[1] == 2 else torch.full_like(extent, torch.nan)
    return Seen(
        cut(descriptors(embedding.float()), parts, SIDE),
        cut(context, parts, COARSE, SUBCELLS),
        F.avg_pool2d(cut(logits[:, None], parts, 2 * SIDE, padding="border"), 2)[:, 0],
        box_maps(prompts, parts),
        F.avg_pool2d(cut(colours, parts, 2 * SIDE, 1 / COLOURS_A_PLACE), 2),
        point,
        extent,
        cut(features.float(), parts, SIDE),
    )


def put_back(head: MaskHead, logits: Tensor, change: Tensor, parts: Tensor) -> Tensor:
    """Return the K masks' logits (K, r, c) with what the head drew (K, SIDE, SIDE) in their parts (K, 4) XYXY."""
    x, y = (torch.arange(extent, device=parts.device, dtype=torch.float32) + 0.5 for extent in logits.shape[:0:-1])
    x = (x - parts[:, :1]) / (parts[:, 2:3] - parts[:, :1]) * 2 - 1
    y = (y - parts[:, 1:2]) / (parts[:, 3:4] - parts[:, 1:2]) * 2 - 1
    shape = -1, y.shape[1], x.shape[1]
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=-1)
    back = F.grid_sample(change[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    seen = (x.abs() < 1)[:, None] & (y.abs() < 1)[:, :, None]
    return torch.where(seen, logits * head.gain.exp() + back, OUTSIDE)
