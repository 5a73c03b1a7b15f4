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


def test_learns_to_tell_two_textures_apart() -> None:
    torch.manual_seed(0)
    affinity = Affinity()
    embedding = torch.randn(1, 256, 1, 1).expand(1, 256, 8, 8).clone()
    embedding[..., 4:] = torch.randn(1, 256, 1, 1)
    target = torch.zeros(1, 32, 32)
    target[..., 16:] = 1
    optimizer = torch.optim.Adam(affinity.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = affinity(embedding, torch.zeros(1, dtype=torch.int64), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
