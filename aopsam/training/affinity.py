"""A dense auxiliary task for the image encoder: pixels of one region alike, pixels around it different.

Through the mask decoder, an encoder learns what belongs together only as fast as the decoder learns to compare; this
loss tells it directly. Its head is thrown away after training.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from aopsam.training.losses import dice_loss

DIMENSIONS = 16
"""Numbers that describe one stride-4 position."""
REACH = 2
"""Cells of 16 pixels by which a mask is dilated; what this adds must differ from the mask."""


class Affinity(nn.Module):
    """Descriptors of stride-4 positions, read linearly from the embedding, and their loss."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Conv2d(256, 16 * DIMENSIONS, 1)
        self.scale = nn.Parameter(torch.tensor(6.0))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def forward(self, embeddings: torch.Tensor, window: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Loss of P masks.

        Args:
            embeddings: (W, 256, h, w).
            window: (P,) int64, the window of each mask, rising.
            targets: (P, 4h, 4w) in [0, 1].
        """
        features = F.normalize(F.pixel_shuffle(self.read(embeddings), 4).float(), dim=1).flatten(2)
        inside = (targets > 0.5).float()
        area = inside.sum((-1, -2))
        alike = []
        for number, pixels in enumerate(features):
            masks = inside[window == number].flatten(1)
            alike.append(F.normalize(masks @ pixels.T, dim=1) @ pixels)
        logits = (self.scale * torch.cat(alike) + self.bias).view_as(inside)
        ring = _around(inside)
        cross = F.binary_cross_entropy_with_logits(logits, inside, reduction="none")
        within = (cross * inside).sum((-1, -2)) / (area + 1)
        around = (cross * ring).sum((-1, -2)) / (ring.sum((-1, -2)) + 1)
        known = inside + ring
        masked = logits * known - 20 * (1 - known)
        loss: torch.Tensor = (within + around + dice_loss(masked, inside)).mean()
        return loss


def _around(inside: torch.Tensor) -> torch.Tensor:
    """(P, H, W) 0 or 1: pixels outside each mask whose 4 x 4 block is at most REACH blocks from it."""
    blocks = F.max_pool2d(inside, 4)
    near = F.max_pool2d(blocks, 2 * REACH + 1, 1, REACH)
    return F.interpolate(near.unsqueeze(1), scale_factor=4.0, mode="nearest")[:, 0] * (1 - inside)
