"""The auxiliary loss rewards regions that look alike, and its ring lies around the mask."""

from __future__ import annotations

import torch

from aopsam.training.affinity import Affinity, _around


def test_ring_lies_around_the_mask() -> None:
    inside = torch.zeros(1, 64, 64)
    inside[0, 24:32, 24:32] = 1
    ring = _around(inside)[0]
    assert ring[24:32, 24:32].max() == 0
    assert ring[16:40, 16:40].sum() == 24 * 24 - 8 * 8
    assert ring[:16].max() == ring[40:].max() == 0


def test_teaches_an_embedding_to_tell_two_halves_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    affinity = Affinity()
    embedding = torch.nn.Parameter(torch.randn(1, 256, 8, 8, generator=generator) + 1)
    target = torch.zeros(1, 32, 32)
    target[..., 16:] = 1
    optimizer = torch.optim.Adam([embedding], lr=0.05)
    ious = []
    for _ in range(40):
        loss, iou = affinity(embedding, torch.zeros(1, dtype=torch.int64), target, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ious.append(iou.item())
    assert ious[0] < 0.6
    assert ious[-1] > 0.95


def test_masks_that_cover_no_position_by_half_do_not_count() -> None:
    embedding = torch.randn(1, 256, 8, 8, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(3, 32, 32)
    target[0, :, 16:], target[1, 3, 3] = 1, 0.4
    losses = []
    for chosen in ([0], [0, 1], [1]):
        window = torch.zeros(len(chosen), dtype=torch.int64)
        generator = torch.Generator().manual_seed(0)
        losses.append(float(Affinity()(embedding, window, target[chosen], generator)[0].detach()))
    assert abs(losses[0] - losses[1]) < 0.1 * losses[0]
    assert losses[2] == 0
