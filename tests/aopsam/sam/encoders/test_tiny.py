"""Shape, size and cost of the tiny encoder."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble


@torch.no_grad()
def test_shape_and_cost() -> None:
    encoder = TinyEncoder().eval()
    with FlopCounterMode(display=False) as counter:
        embedding = encoder(torch.zeros(1, 3, 512, 512))
    assert embedding.shape == (1, 256, 32, 32)
    assert counter.get_total_flops() < 15e9
    assert sum(p.numel() for p in assemble(encoder).parameters()) < 10e6


@torch.no_grad()
def test_windows_and_half_precision() -> None:
    encoder = TinyEncoder((4, 8, 8, 16)).eval()
    assert encoder(torch.zeros(2, 3, 64, 96)).shape == (2, 256, 4, 6)
    half = encoder.half()(torch.zeros(1, 3, 64, 64, dtype=torch.float16))
    assert half.dtype == torch.float16
    assert torch.isfinite(half).all()


@torch.no_grad()
def test_every_stride_4_position_reaches_the_embedding() -> None:
    torch.manual_seed(0)
    encoder = TinyEncoder((4, 8, 8, 16)).eval()
    plain = torch.zeros(1, 3, 64, 64)
    dots = plain.clone()
    dots[..., 20:22, 24:26] = 3
    changed = (encoder(dots) - encoder(plain)).abs().sum(1)[0]
    assert divmod(int(changed.argmax()), 4) == (1, 1)
