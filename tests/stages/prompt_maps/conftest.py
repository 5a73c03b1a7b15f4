"""A small SAM in the registry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, ModelSpec
from tests.helpers.made_shard import ToyEncoder


@pytest.fixture
def toy_sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SAM named `toy` of random weights, in the registry; returns their file."""
    torch.manual_seed(0)
    weights = tmp_path / "toy.safetensors"
    save_file(assemble(ToyEncoder()).state_dict(), weights)
    monkeypatch.setitem(MODELS, "toy", ModelSpec(lambda: assemble(ToyEncoder()), weights, terms="none"))
    return weights
