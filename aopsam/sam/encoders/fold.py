"""Compute a convolution and its batch normalisation as one convolution, where the statistics are fixed."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def conv_norm(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
    """Compute `norm(conv(x))` for a convolution without bias.

    In eval mode the norm is folded into the weights, at each call anew: that costs as little as copying the weights,
    and no copy can go stale. Gradients pass.
    """
    if norm.training:
        normalised: torch.Tensor = norm(conv(x))
        return normalised
    scale = norm.weight.float() * (norm.running_var.float() + norm.eps).rsqrt()  # type: ignore[union-attr]
    bias = norm.bias.float() - norm.running_mean.float() * scale  # type: ignore[union-attr]
    weight = conv.weight.float() * scale.view(-1, 1, 1, 1)
    return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), conv.stride, conv.padding, conv.dilation, conv.groups)
