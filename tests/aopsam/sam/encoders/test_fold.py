"""A convolution with its norm folded in, against the two one after the other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aopsam.sam.encoders.fold import conv_norm


@pytest.fixture
def layers() -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 8, 3, 2, 1, groups=2, bias=False), nn.BatchNorm2d(8)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return conv, norm


@pytest.mark.parametrize("training", [False, True])
def test_equals_both_in_turn_with_the_same_gradients(layers: tuple[nn.Conv2d, nn.BatchNorm2d], training: bool) -> None:
    conv, norm = (layer.train(training) for layer in layers)
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(1))
    parameters = [conv.weight, norm.weight, norm.bias]
    folded, expected = conv_norm(x, conv, norm), norm(conv(x))
    torch.testing.assert_close(folded, expected)
    found, wanted = (torch.autograd.grad(y.square().sum(), parameters) for y in (folded, expected))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_half_precision(layers: tuple[nn.Conv2d, nn.BatchNorm2d]) -> None:
    conv, norm = (layer.eval() for layer in layers)
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(1))
    expected = norm(conv(x))
    torch.testing.assert_close(conv_norm(x.half(), conv.half(), norm.half()).float(), expected, atol=0.02, rtol=0.02)
