"""NanoDet's trunk: its strides, and its published weights by name, for RGB instead of BGR."""

from __future__ import annotations

import pytest
import torch

from aopsam.sam.encoders.nanodet import CHANNELS, STEM, Trunk


@torch.no_grad()
def test_gives_the_stem_and_four_strides() -> None:
    stem, levels = Trunk()(torch.zeros(1, 3, 64, 96))
    assert stem.shape == (1, STEM, 32, 48)
    strides = zip(CHANNELS, (4, 8, 16, 32), strict=True)
    assert [tuple(level.shape[1:]) for level in levels] == [(c, 64 // s, 96 // s) for c, s in strides]


@torch.no_grad()
def test_published_weights_read_bgr() -> None:
    trunk, published = Trunk(), Trunk()
    trunk.load_nanodet(published.state_dict() | {"lateral.0.weight": torch.zeros(1)})
    rgb = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(trunk(rgb)[1][0], published(rgb.flip(1))[1][0])


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"stem.weight": None}, "stem.weight is missing"),
        ({"stem.bias": torch.zeros(3)}, r"stem.bias is \[3\], expected \[32\]"),
    ],
)
def test_other_weights_are_refused(change: dict[str, torch.Tensor | None], line: str) -> None:
    state = {name: t for name, t in (Trunk().state_dict() | change).items() if t is not None}
    with pytest.raises(ValueError, match=f"not NanoDet's weights: {line}"):
        Trunk().load_nanodet(state)
