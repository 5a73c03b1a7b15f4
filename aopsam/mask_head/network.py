"""The mask head: a mask's box out of the embedding in, the same mask drawn better out.

A decoder that reads a whole photo for a prompt must find figure and ground at any size; a head that sees every object
at the same size learns them from few photos (Mask R-CNN, He et al. 2017; that one draws from boxes alone). Ours begins
with the decoder's mask, and is told at each place how like it is to what lies inside that mask and to what lies around:
linear discriminants of `tiny`'s region descriptors, of the features behind these and of the photo's colours, solved for
each mask anew. It also knows where the prompt lay.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aopsam.sam.encoders.tiny import CONTEXT, DESCRIPTOR, FEATURES

SIDE = 32
"""Rows and columns in which the head sees a mask; 64 cost three times as much and gave no more (benchmarks/LOG.md)."""
COARSE = SIDE // 4
"""Rows and columns in which it sees the embedding's context."""
FINE, MID, DEEP, OF_CONTEXT = 24, 48, 96, 32
"""Channels at `SIDE`, half and a quarter of it, and of what it reads of the context."""
OF_FEATURES = 48
"""Channels that the encoder's features are projected to, once a photo."""
BEYOND_DESCRIPTORS = 22 + OF_FEATURES
SHRINKAGE, FEATURE_SHRINKAGE, COLOUR_SHRINKAGE = 2.0, 1.0, 0.3
"""Share of the mean variance that is added to each number's variance before a discriminant is solved: of descriptors,
projected features and colours."""
NEAR = (0.04, 0.16)
"""Standard deviations of nearness to a prompt's point, in sides of what the head sees."""
STEP = 8.0
"""Logits to a unit of the last convolution."""


class Seen(NamedTuple):
    """What the head sees of K masks.

    Attributes:
        descriptors: (K, 12, SIDE, SIDE), of `tiny`'s embedding.
        context: (K, 64, COARSE, COARSE), the embedding's other channels.
        logits: (K, SIDE, SIDE) of the decoder.
        box: (K, 2, SIDE, SIDE): where the prompt's box lies, and ones if there is one.
        colours: (K, 3, SIDE, SIDE) of the photo, normalised as the encoder reads it.
        point: (K, 2) x and y of the prompt's point, 0 to 1 within what the head sees; NaN where the prompt is a box.
        extent: (K, 2) width and height of what the head sees, in low-resolution logits.
        features: (K, OF_FEATURES, SIDE, SIDE) of the encoder, projected.
    """

    descriptors: Tensor
    context: Tensor
    logits: Tensor
    box: Tensor
    colours: Tensor
    point: Tensor
    extent: Tensor
    features: Tensor


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
        self.project = nn.Conv2d(FEATURES, OF_FEATURES, 1)
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

    def forward(self, seen: Seen) -> Tensor:
        """Return what is added to the logits of K masks once these are multiplied by exp(gain), (K, SIDE, SIDE)."""
        inside = seen.logits.sigmoid()
        x = torch.cat(
            [
                2 * seen.descriptors,
                (seen.logits / 4).tanh()[:, None],
                (seen.logits / 16).clamp(-1, 1)[:, None],
                *(part[:, None] for part in figure_and_ground(seen.descriptors, inside)),
                seen.box,
                seen.colours,
                *(part[:, None] for part in contrast(seen.colours, inside, COLOUR_SHRINKAGE)),
                *(part[:, None] for part in around_point(seen)),
                (seen.extent.clamp_min(2) / SIDE).log()[:, :, None, None].expand(-1, -1, SIDE, SIDE),
                seen.features,
                *(part[:, None] for part in contrast(seen.features, inside, FEATURE_SHRINKAGE)),
            ],
            dim=1,
        )
        at1 = self.enter(_channels_last(x))
        at2 = self.down2(at1)
        at4 = self.join(torch.cat([self.down4(at2), self.context(seen.context)], dim=1))
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


def contrast(maps: Tensor, inside: Tensor, shrinkage: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compare what each place of K boxes shows, such as its colour, with the means of a mask's inside and outside.

    Args:
        maps: (K, C, h, w).
        inside: (K, h, w) in [0, 1].
        shrinkage: share of the mean variance of the C numbers that is added to each one's.

    Returns:
        Linear discriminant as in `figure_and_ground`, and the root mean squared differences from the inside's and the
        outside's mean; (K, h, w) float32 each.
    """
    found = maps.float().flatten(2)
    score, means = _discriminant(found, inside, shrinkage)
    squares = found.square().sum(1, keepdim=True) - 2 * means @ found + means.square().sum(2, keepdim=True)
    from_inside, from_outside = (squares / found.shape[1]).clamp_min(0).add(1e-4).sqrt().unbind(1)
    return score.view_as(inside), from_inside.view_as(inside), from_outside.view_as(inside)


def around_point(seen: Seen) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compare each place of K boxes with the point that was the prompt; zeros where that was a box.

    Returns:
        Nearness to the point, by Gaussians with the deviations `NEAR`, three times the inner product with the
        descriptor at the point, and the root mean squared difference from the colour there; (K, SIDE, SIDE) each.
    """
    is_point = ~seen.point.isnan().any(1)[:, None, None]
    x, y = seen.point.nan_to_num(0.5).unbind(1)
    along = (torch.arange(SIDE, device=x.device, dtype=torch.float32) + 0.5) / SIDE
    apart = (along[None, None] - x[:, None, None]) ** 2 + (along[None, :, None] - y[:, None, None]) ** 2
    near, wide = ((-apart / (2 * deviation**2)).exp() for deviation in NEAR)
    place = (2 * torch.stack([x, y], dim=1) - 1).clamp(-1, 1)[:, None, None]
    descriptor, colour = (
        F.grid_sample(maps.float(), place, padding_mode="border", align_corners=False)
        for maps in (seen.descriptors, seen.colours)
    )
    like = 3 * (descriptor * seen.descriptors).sum(1)
    other = ((seen.colours - colour).square().mean(1) + 1e-4).sqrt()
    return near * is_point, wide * is_point, like * is_point, other * is_point


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
    score = (direction.mT @ found - direction.mT @ middle[..., None])[:, 0]
    return score / (score.std(1, keepdim=True) + 1e-3), means


def _block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _channels_last(x: Tensor) -> Tensor:
    """Return `x.contiguous(memory_format=torch.channels_last)`, in a third of the time: torch is quick at the transpose
    of a matrix, and not at that of many at once."""
    matrices = [one.flatten(1).t().contiguous() for one in x]
    return torch.stack(matrices).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
