"""Average features along rows and columns up to edges, so that positions of one region get similar values.

The domain transform's recursive filter (Gastal and Oliveira 2011; inside a network: Chen et al. 2016): along each row
and column a running mean whose memory is short where neighbours differ. Averaged that way, the plain coordinates of a
position become the coordinates of its region, so two positions of one region are similar and two regions of one colour
are not. What stops the averaging works before training, which learns its weight at each position: the colour contrast,
and an edge map as an edge detector gives it. Probabilities of an edge are squared, so that a ridge some positions wide
stops a line altogether, and the haze that a detector leaves on texture hardly at all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

HEADS = 4
LEARNED = 8
"""Learned channels that a head averages in addition to the coordinates."""
WAVES_PX = (96.0, 384.0)
"""Wavelengths of the coordinates' sines and cosines, in pixels of the photo that the encoder reads."""
ROUNDS = 2
STRIDE = 4
WIDTH = LEARNED + 4 * len(WAVES_PX)
EDGES = (0.7, 1.5, 3.0, 6.0)
"""Initial weight, for each head, of the squared probability of an edge, mean of two neighbours."""
CONTRAST = (0.175, 0.375, 1.5, 6.0)
"""Initial weight, for each head, of the colour contrast (sum over normalised channels) of neighbours."""
STEP = 0.03
"""Initial loss of memory from one position to the next where nothing differs."""
FAINT = 0.05
"""Least contrast of every pair of neighbours, so that a learnt edge can stop the averaging where colour does not."""


class EdgeAware(nn.Module):
    """Averages up to edges of (B, C, H, W) features at stride 4 and of coordinates, (B, HEADS * WIDTH, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.Conv2d(channels, 2 * HEADS, 3, padding=1)
        self.values = nn.Conv2d(channels, HEADS * LEARNED, 1)
        self.contrast = nn.Parameter(torch.tensor(CONTRAST).log())
        self.step = nn.Parameter(torch.full((2, HEADS), math.log(STEP)))
        self.strength = nn.Parameter(torch.tensor(EDGES).log())
        nn.init.normal_(self.edges.weight, std=0.02)
        nn.init.zeros_(self.edges.bias)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor, photo: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Average features `x` up to edges, in float32: a memory of 0.97 a step does not survive half precision.

        Args:
            x: (B, C, H, W).
            photo: (B, 3, 4H, 4W), normalised.
            edges: (B, 1, H, W) probabilities of an edge.
        """
        batch, _, height, width = x.shape
        across, down = self._memory(x, self._contrast(photo) + self._crossed(edges))
        learnt = self.values(x).float().view(batch, HEADS, LEARNED, height, width)
        place = _coordinates(height, width, x.device).expand(batch, HEADS, -1, -1, -1)
        # The channel of ones, averaged like the others, is what the sums are divided by.
        values = torch.cat([learnt, place, torch.ones_like(learnt[:, :, :1])], dim=2).permute(4, 0, 1, 3, 2)
        for _ in range(ROUNDS):
            values = running_mean(values.contiguous(), across).permute(3, 1, 2, 0, 4)
            values = running_mean(values.contiguous(), down).permute(3, 1, 2, 0, 4)
        return values[..., :-1].permute(1, 2, 4, 3, 0).reshape(batch, HEADS * WIDTH, height, width).to(x.dtype)

    def _memory(self, x: torch.Tensor, stops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the share in [0, 1] kept from the position before.

        Args:
            x: (B, C, H, W).
            stops: (B, 2, HEADS, H, W), what stops the averaging before each position, across and down.

        Returns:
            (W, B, HEADS, H, 1) across and (H, B, HEADS, W, 1) down.
        """
        learnt = self.edges(x).float().unflatten(1, (2, HEADS)).clamp(-4, 4).exp()
        kept = (-(stops + FAINT) * learnt - self.step.float().exp().view(1, 2, -1, 1, 1)).exp()
        return kept[:, 0].permute(3, 0, 1, 2).unsqueeze(-1), kept[:, 1].permute(2, 0, 1, 3).unsqueeze(-1)

    def _contrast(self, photo: torch.Tensor) -> torch.Tensor:
        """Return the weighted colour contrast to the neighbours on the left and above, (B, 2, HEADS, H, W)."""
        colour = F.avg_pool2d(photo.float(), STRIDE)
        right = F.pad((colour[..., 1:] - colour[..., :-1]).abs().sum(1), (1, 0))
        below = F.pad((colour[:, :, 1:] - colour[:, :, :-1]).abs().sum(1), (0, 0, 1, 0))
        return torch.stack([right, below], dim=1).unsqueeze(2) * self.contrast.float().exp().view(1, 1, -1, 1, 1)

    def _crossed(self, edges: torch.Tensor) -> torch.Tensor:
        """Return the weighted edge between a position and its neighbours on the left and above, (B, 2, HEADS, H, W)."""
        ridge = edges.float().square() * self.strength.float().exp().view(1, -1, 1, 1)
        right = F.pad((ridge[..., 1:] + ridge[..., :-1]) / 2, (1, 0))
        below = F.pad((ridge[:, :, 1:] + ridge[:, :, :-1]) / 2, (0, 0, 1, 0))
        return torch.stack([right, below], dim=1)


def running_mean(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Average values over a line, weighted by what is left of the memory between two positions.

    Args:
        values: (L, ..., C), the last channel the total weight (ones at first).
        kept: (L, ..., 1) in [0, 1], the share kept from position i - 1 to i; the first is not used.

    Returns:
        The same shape as `values`, divided by its last channel.
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return _dense_mean(values, kept)
    mean: torch.Tensor = _RunningMean.apply(values, kept)
    return mean


def _dense_mean(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Compute `running_mean` by the weights of all pairs.

    For runtimes that would unroll the recursion into thousands of steps. The share kept between two positions falls
    exponentially with their distance, so distances add up along the line.
    """
    way = -kept[1:].clamp_min(torch.finfo(kept.dtype).tiny).log()
    place = F.pad(way.movedim(0, -1).cumsum(-1), (1, 0)).squeeze(-2)
    weights = (place.unsqueeze(-1) - place.unsqueeze(-2)).abs().neg().exp()
    total = (weights @ values.movedim(0, -2)).movedim(
        values.ndim - 2, 0
    )  # PyTorch's ONNX exporter takes no negative source
    return total / total[..., -1:]


class _RunningMean(torch.autograd.Function):
    """Running sums up the line, y[i] = v[i] + kept[i] * y[i - 1], and down it, less v once, over their last channel.

    With its own gradient, since autograd would keep twice as many tensors, each as large as the values.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        up, down = torch.empty_like(values), torch.empty_like(values)
        up[0], down[-1] = values[0], values[-1]
        for i in range(1, len(values)):
            torch.addcmul(values[i], kept[i], up[i - 1], out=up[i])
        for i in range(len(values) - 2, -1, -1):
            torch.addcmul(values[i], kept[i + 1], down[i + 1], out=down[i])
        mean = up + down
        mean -= values
        scale = mean[..., -1:].reciprocal()
        mean *= scale
        ctx.save_for_backward(kept, up, down, mean, scale)
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept, up, down, mean, scale = ctx.saved_tensors
        wanted = gradients[0] * scale
        # The last channel divides the others; of itself it is 1, whatever it is.
        wanted[..., -1] = -(wanted[..., :-1] * mean[..., :-1]).sum(-1)
        # The gradient of a sum up the line is a sum down the line, and the other way round.
        of_up, of_down = torch.empty_like(wanted), torch.empty_like(wanted)
        of_up[-1], of_down[0] = wanted[-1], wanted[0]
        for i in range(len(wanted) - 2, -1, -1):
            torch.addcmul(wanted[i], kept[i + 1], of_up[i + 1], out=of_up[i])
        for i in range(1, len(wanted)):
            torch.addcmul(wanted[i], kept[i], of_down[i - 1], out=of_down[i])
        to_kept = torch.zeros_like(kept)
        product = of_up[1:] * up[:-1]
        product.addcmul_(of_down[:-1], down[1:])
        to_kept[1:] = product.sum(-1, keepdim=True)
        of_up += of_down
        of_up -= wanted
        return of_up, to_kept


def _coordinates(height: int, width: int, device: torch.device) -> torch.Tensor:
    """Return sines and cosines of x and y, (4 * len(WAVES_PX), height, width)."""
    x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) * STRIDE
    y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5)[:, None] * STRIDE
    waves = [
        wave(2 * math.pi * place / length).expand(height, width)
        for length in WAVES_PX
        for wave in (torch.sin, torch.cos)
        for place in (x, y)
    ]
    return torch.stack(waves)
