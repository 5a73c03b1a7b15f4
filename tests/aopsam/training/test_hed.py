"""HED on made-up photos: its map's size, its precision, and weights that are not its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aopsam.training.hed import HED_PX, Hed, edge_map
from tests.helpers.made_edges import save_random_hed


def test_the_map_has_half_the_size_of_what_hed_reads(tmp_path: Path) -> None:
    hed = Hed.load(save_random_hed(tmp_path / "hed.safetensors"))
    rgb = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    edges = edge_map(hed, rgb)
    assert edges.shape == (17, 25)
    assert edges.dtype == np.uint8
    rounded = edge_map(hed.bfloat16(), rgb)
    assert np.abs(edges.astype(int) - rounded).max() <= 4
    assert edge_map(hed, np.zeros((8, 2 * HED_PX, 3), np.uint8)).shape == (2, HED_PX // 2)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other.safetensors: not HED's weights"):
        Hed.load(tmp_path / "other.safetensors")
