"""The mask head: a mask's box out of the embedding in, the same mask drawn better out.

A decoder that reads a whole photo for a prompt must find figure and ground at any size; a head that sees every object
at the same size learns them from few photos (Mask R-CNN, He et al. 2017; that one draws from boxes alone). Ours begins
with the decoder's mask, and is told at each place how like it is to what lies inside that mask and to what lies around:
linear discriminants of `tiny`'s region descriptors and of the photo's colours, solved for each mask anew.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopsam.sam.encoders.tiny import CONTEXT, DESCRIPTOR

SIDE = 32
"""Rows and columns in which the head sees a mask; 64 cost three times as much and gave no more (benchmarks/LOG.md)."""
COARSE = SIDE // 4
"""Rows and columns in which it sees the embedding's context."""
FINE, MID, DEEP, OF_CONTEXT = 24, 48, 96, 32
"""Channels at `SIDE`, half and a quarter of it, and of what it reads of the context."""
BEYOND_DESCRIPTORS = 13
SHRINKAGE, COLOUR_SHRINKAGE = 2.0, 0.3
"""Share of the mean variance that is added to each number's variance before a discriminant is solved."""
STEP = 8.0
"""Logits to a unit of the last convolution."""


class MaskHead(nn.Module):
    """A small U-Net over the boxes of masks.

    Attributes:
        sam: name of the SAM whose embeddings and masks it learnt from.
        sam_sha256: digest of that SAM's weights.
        sha256: digest of its own weights file, empty where it comes from none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = _block(DESCRIPTOR + BEYOND_DESCRIPTORS, FINE)
        self.down2 = nn.Sequential(_block(FINE, MID, stride=2), _block(MID, MID))
        self.down4 = _block(MID, DEEP, stride=2)
        self.context = _block(CONTEXT, OF_CONTEXT, kernel=1)
        self.join = _block(DEEP + OF_CONTEXT, DEEP)
        self.down8 = nn.Sequential(_block(DEEP, DEEP, stride=2), _block(DEEP, DEEP))
        self.up4, self.merge4 = nn.Conv2d(DEEP, DEEP, 1), _block(DEEP, DEEP)
        self.up2, self.merge2 = nn.Conv2d(DEEP, MID, 1), _block(MID, MID)
        self.up1, self.merge1 = nn.Conv2d(MID, FINE, 1), _block(FINE, FINE)
        self.change = nn.Conv2d(FINE, 1, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(()))
        # It begins with the masks as they are.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type]
        self.sam = self.sam_sha256 = self.sha256 = ""

    def forward(self, descriptors: Tensor, context: Tensor, logits: Tensor, box: Tensor, colours: Tensor) -> Tensor:
        """Return what is added to the logits of K masks once these are multiplied by exp(gain), (K, SIDE, SIDE).

        Args:
            descriptors: (K, 12, SIDE, SIDE), of `tiny`'s embedding.
            context: (K, 64, COARSE, COARSE), the embedding's other channels.
            logits: (K, SIDE, SIDE) of the decoder.
            box: (K, 2, SIDE, SIDE): where the prompt's box lies, and ones if there is one.
            colours: (K, 3, SIDE, SIDE) of the photo, normalised as the encoder reads it.
        """
        inside = logits.sigmoid()
        x = torch.cat(
            [
                2 * descriptors,
                (logits / 4).tanh()[:, None],
                (logits / 16).clamp(-1, 1)[:, None],
                *(part[:, None] for part in figure_and_ground(descriptors, inside)),
                box,
                colours,
                *(part[:, None] for part in colour_contrast(colours, inside)),
            ],
            dim=1,
        )
        at1 = self.enter(x)
        at2 = self.down2(at1)
        at4 = self.join(torch.cat([self.down4(at2), self.context(context)], dim=1))
        at4 = self.merge4(at4 + _twice(self.up4(self.down8(at4))))
        at2 = self.merge2(at2 + _twice(self.up2(at4)))
        at1 = self.merge1(at1 + _twice(self.up1(at2)))
        return STEP * self.change(at1)[:, 0].float()


def figure_and_ground(descriptors: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compare the descriptor of each place of K boxes with the means of a mask's inside and outside.

    Args:
        descriptors: (K, D, h, w).
        inside: (K, h, w) in [0, 1].

    Returns:
        Linear discriminant with shrinkage, of unit deviation in each box, and three times the inner products with the
        inside's and the outside's mean descriptor; (K, h, w) float32 each.
    """
    found = descriptors.float().flatten(2)
    score, means = _discriminant(found, inside, SHRINKAGE)
    like_inside, like_outside = (3 * (means @ found)).unbind(1)
    return score.view_as(inside), like_inside.view_as(inside), like_outside.view_as(inside)


def colour_contrast(colours: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compare the colour of each place of K boxes with the means of a mask's inside and outside.

    Args:
        colours: (K, 3, h, w).
        inside: (K, h, w) in [0, 1].

    Returns:
        Linear discriminant as in `figure_and_ground`, and the root mean squared differences from the inside's and the
        outside's mean colour; (K, h, w) float32 each.
    """
    found = colours.float().flatten(2)
    score, means = _discriminant(found, inside, COLOUR_SHRINKAGE)
    from_inside, from_outside = (
        ((found - mean[..., None]).square().mean(1) + 1e-4).sqrt().view_as(inside) for mean in means.unbind(1)
    )
    return score.view_as(inside), from_inside, from_outside


def _discriminant(found: Tensor, inside: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return the linear discriminant (K, P) of P places' numbers (K, C, P), and the inside's and the outside's means
    (K, 2, C)."""
    weights = torch.stack([inside, 1 - inside], dim=1).float().flatten(2) + 1e-4
    weights = weights / weights.sum(2, keepdim=True)
    means = weights @ found.mT
    weight, middle = weights.mean(1, keepdim=True), means.mean(1)
    spread = (found * weight) @ found.mT - middle[:, :, None] * middle[:, None]
    variance = spread.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    shrunk = spread + (shrinkage * variance + 1e-3) * torch.eye(
        spread.shape[1], device=spread.device, dtype=torch.float32
    )
    direction = torch.linalg.solve(shrunk, (means[:, 0] - means[:, 1])[..., None])
    score = ((found - middle[..., None]).mT @ direction)[..., 0]
    return score / (score.std(1, keepdim=True) + 1e-3), means


def _block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
