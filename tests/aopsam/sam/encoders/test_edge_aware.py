"""The recursive filter against the dense weighted mean it stands for, and what edges do to regions."""

from __future__ import annotations

import pytest
import torch

from aopsam.sam.encoders.edge_aware import FAINT, HEADS, LEARNED, ROUNDS, WIDTH, EdgeAware, _dense_mean, running_mean


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


def test_gradients_of_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    values = 0.5 + torch.rand(6, 2, 3, generator=generator, dtype=torch.float64)
    values[..., -1] = 1
    kept = torch.rand(6, 2, 1, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(running_mean, (values.requires_grad_(), kept.requires_grad_()))


@torch.no_grad()
def test_equals_plain_averages_along_rows_and_columns() -> None:
    torch.manual_seed(0)
    layer, (height, width) = EdgeAware(3), (5, 6)
    x, photo, edges = torch.randn(1, 3, height, width), torch.randn(1, 3, 4 * height, 4 * width), torch.rand(5, 6)
    colour = photo[0].view(3, height, 4, width, 4).mean((2, 4))
    learnt = layer.edges(x)[0].view(2, HEADS, height, width).clamp(-4, 4).exp()
    found = layer(x, photo, edges[None, None])[0].view(HEADS, WIDTH, height, width)
    for head in range(HEADS):
        contrast, strength = layer.contrast[head].exp(), layer.strength[head].exp()

        def kept(axis: int, y: int, x: int, head: int = head, c: object = contrast, s: object = strength) -> float:
            """What passes to (y, x) from the position on its left, or above it with axis 1."""
            before = (y, x - 1) if axis == 0 else (y - 1, x)
            stop = c * (colour[:, y, x] - colour[(slice(None), *before)]).abs().sum()
            stop = stop + s * (edges[y, x] ** 2 + edges[before] ** 2) / 2
            return float((-(stop + FAINT) * learnt[axis, head, y, x] - layer.step[axis, head].exp()).exp())

        values = layer.values(x)[0].view(HEADS, LEARNED, height, width)[head].clone()
        for _ in range(ROUNDS):
            for axis, lines, length in ((0, height, width), (1, width, height)):
                out = torch.zeros_like(values)
                for line in range(lines):
                    at = (lambda i, line=line: (line, i)) if axis == 0 else (lambda i, line=line: (i, line))
                    passes = torch.tensor([0.0] + [kept(axis, *at(i)) for i in range(1, length)])
                    row = torch.stack([values[(slice(None), *at(i))] for i in range(length)])
                    mean = dense_mean(torch.cat([row, torch.ones(length, 1)], 1), passes[:, None])[:, :-1]
                    for i in range(length):
                        out[(slice(None), *at(i))] = mean[i]
                values = out
        torch.testing.assert_close(found[head, :LEARNED], values, atol=1e-4, rtol=1e-4)


def test_one_region_becomes_alike_and_two_of_one_colour_do_not() -> None:
    torch.manual_seed(0)
    layer = EdgeAware(4)
    photo = torch.zeros(1, 3, 64, 192)
    photo[..., 80:112] = 2.0  # a wall between two areas of one colour
    with torch.no_grad():
        out = layer(torch.zeros(1, 4, 16, 48), photo, torch.zeros(1, 1, 16, 48))
    assert out.shape == (1, HEADS * WIDTH, 16, 48)
    head = out[0].view(HEADS, WIDTH, 16, 48)[2]
    place = head[-4:]  # the longest wave
    within = (place[:, 8, 3] - place[:, 8, 16]).norm()
    across = (place[:, 8, 16] - place[:, 8, 30]).norm()
    assert across > 4 * within


@torch.no_grad()
def test_averages_stop_at_edges() -> None:
    torch.manual_seed(0)
    layer = EdgeAware(8)
    x, photo, wall = torch.randn(1, 8, 16, 16), torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 16, 16)
    wall[..., 7:9] = 1
    across = [
        (found[..., 5] - found[..., 10]).abs().mean()
        for found in (layer(x, photo, edges) for edges in (torch.zeros_like(wall), wall))
    ]
    assert across[1] > 2 * across[0]


@torch.no_grad()
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(precision: torch.dtype) -> None:
    layer = EdgeAware(4).to(precision)
    x, photo, edges = torch.randn(1, 4, 128, 128), torch.randn(1, 3, 512, 512), torch.rand(1, 1, 128, 128)
    out = layer(x.to(precision), photo.to(precision), edges.to(precision))
    assert out.dtype == precision
    assert torch.isfinite(out).all()
