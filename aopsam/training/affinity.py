"""Compute a dense auxiliary loss of the image encoder: which positions belong to the region of a point?

Through the mask decoder, an encoder learns to group positions only as fast as the decoder learns to compare them; this
loss trains it directly, for every position of every mask. Its head is discarded after training.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from aopsam.sam.encoders.tiny import descriptors
from aopsam.training.losses import mask_iou

REACH = 2
"""Cells of 16 pixels by which a mask is dilated; the ring that this adds has a larger weight than the rest."""
RING, REST = 0.6, 0.4
"""Weights of that ring and of everything beyond it; the mask has weight 1."""
THRESHOLDS = (0.5, 0.8, 0.93)
"""Initial thresholds of the levels: cosine from which a position belongs to the region."""
STEEPNESS = 8.0
"""Initial logits per unit of cosine above the threshold."""
OTHERS = 0.1
"""Weight of the mean loss over the levels; the best level has weight 1."""


class Affinity(nn.Module):
    """Head that compares the embedding's descriptors with three learnt thresholds, the levels of a region.

    The best level counts, as among SAM's three masks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), STEEPNESS))
        self.bias = nn.Parameter(-STEEPNESS * torch.tensor(THRESHOLDS))

    def forward(
        self, embeddings: torch.Tensor, window: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss of P masks and their (P,) IoU.

        Each mask has two queries: its mean descriptor, and the one around a random position inside.

        Args:
            embeddings: (W, 256, h, w).
            window: (P,) int64, the window of each mask, rising.
            targets: (P, 4h, 4w) in [0, 1].
            generator: source of the random positions, on the CPU.
        """
        features = descriptors(embeddings.float())
        around = F.normalize(F.avg_pool2d(features, 3, 1, 1), dim=1).flatten(2)
        features = F.normalize(features, dim=1).flatten(2)
        inside = (targets > 0.5).float()
        ring = _around(inside).flatten(1)
        inside = inside.flatten(1)
        pick = torch.multinomial(inside.cpu() + 1e-6, 1, generator=generator)[:, 0].to(inside.device)
        alike = []
        for number, pixels in enumerate(features):
            mine = window == number
            mean = F.normalize(inside[mine] @ pixels.T, dim=1)
            alike.append(torch.stack([mean, around[number].T[pick[mine]]], dim=1) @ pixels)
        logits = self.scale[:, None] * torch.cat(alike).unsqueeze(2) + self.bias[:, None]
        return _loss(logits, inside, ring)


def _loss(logits: torch.Tensor, inside: torch.Tensor, ring: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cross entropy (balanced) plus Dice of the best level, and the IoU (P,) of the best query and level.

    Args:
        logits: (P, 2, levels, N).
        inside: (P, N) 0 or 1.
        ring: (P, N) 0 or 1.
    """
    rest = 1 - inside - ring
    weight = inside / (inside.sum(1, keepdim=True) + 1)
    weight = weight + RING * ring / (ring.sum(1, keepdim=True) + 1) + REST * rest / (rest.sum(1, keepdim=True) + 1)
    truth = inside[:, None, None]
    cross = ((F.softplus(logits) - logits * truth) * weight[:, None, None]).sum(-1)
    p = logits.sigmoid()
    dice = 1 - (2 * (p * truth).sum(-1) + 1) / (p.sum(-1) + truth.sum(-1) + 1)
    loss = cross + dice
    with torch.no_grad():
        iou = mask_iou(logits.unsqueeze(-1), truth.unsqueeze(-1))
    # A mask that covers no position by half would only teach to answer nothing.
    seen = (inside.sum(1, keepdim=True) > 0).float()
    each = (loss.min(2).values + OTHERS * loss.mean(2)) * seen
    return each.sum() / (each.shape[1] * seen.sum()).clamp_min(1), iou.flatten(1).max(1).values


def _around(inside: torch.Tensor) -> torch.Tensor:
    """Return the ring of each mask, (P, H, W) 0 or 1: outside pixels whose 4 x 4 block is at most REACH blocks away."""
    blocks = F.max_pool2d(inside, 4)
    near = F.max_pool2d(blocks, 2 * REACH + 1, 1, REACH)
    return F.interpolate(near.unsqueeze(1), scale_factor=4.0, mode="nearest")[:, 0] * (1 - inside)
