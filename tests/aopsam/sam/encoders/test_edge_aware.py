"""The recursive filter against the dense weighted mean it stands for, and what it does to two regions."""

from __future__ import annotations

import torch

from aopsam.sam.encoders.edge_aware import HEADS, WIDTH, EdgeAware, _dense_mean, _Scan, running_mean


def dense_mean(values: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Every pair of positions weighted by the product of what is kept between them."""
    length = len(values)
    out = torch.zeros_like(values)
    for i in range(length):
        for j in range(length):
            low, high = min(i, j), max(i, j)
            out[i] += kept[low + 1 : high + 1].prod(0) * values[j]
    return out / out[..., -1:]


def test_running_mean_equals_the_dense_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(9, 2, 3, generator=generator, dtype=torch.float64)
    values[..., -1] = 1
    kept = torch.rand(9, 2, 1, generator=generator, dtype=torch.float64)
    assert torch.allclose(running_mean(values, kept), dense_mean(values, kept))


def test_the_form_for_other_runtimes_is_the_same_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(128, 2, 3, 5, generator=generator)
    values[..., -1] = 1
    kept = torch.rand(128, 2, 3, 1, generator=generator)
    kept[50] = 0
    assert torch.allclose(_dense_mean(values, kept), running_mean(values, kept), atol=1e-4)


def test_gradients_of_the_scan() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    kept = torch.rand(6, 2, 1, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Scan.apply, (values, kept))


def test_one_region_becomes_alike_and_two_of_one_colour_do_not() -> None:
    torch.manual_seed(0)
    layer = EdgeAware(4)
    photo = torch.zeros(1, 3, 64, 192)
    photo[..., 80:112] = 2.0  # a wall between two areas of one colour
    with torch.no_grad():
        out = layer(torch.zeros(1, 4, 16, 48), photo)
    assert out.shape == (1, HEADS * WIDTH, 16, 48)
    head = out[0].view(HEADS, WIDTH, 16, 48)[2]
    place = head[-4:]  # the longest wave
    within = (place[:, 8, 3] - place[:, 8, 16]).norm()
    across = (place[:, 8, 16] - place[:, 8, 30]).norm()
    assert across > 4 * within


def test_half_precision_stays_finite() -> None:
    layer = EdgeAware(4).half()
    with torch.no_grad():
        out = layer(torch.randn(1, 4, 128, 128).half(), torch.randn(1, 3, 512, 512).half())
    assert out.dtype == torch.float16
    assert torch.isfinite(out).all()
