from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.predictor.weights import load_predictor, save_predictor


def test_a_saved_predictor_returns_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    predictor = PromptPredictor(12).eval()
    predictor.sam, predictor.sam_sha256 = "tiny", "ab" * 32
    predictor.sampling = Sampling(threshold=0.07, smoothing_sigma=1.5, spacing=4)
    path = tmp_path / "predictor.safetensors"
    save_predictor(predictor, path, {"seed": "0"})
    loaded = load_predictor(path)
    assert (loaded.sam, loaded.sam_sha256, loaded.sampling) == ("tiny", "ab" * 32, predictor.sampling)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.training
    image, embedding = torch.randn(1, 3, 64, 64), torch.randn(1, 12, 8, 8)
    torch.testing.assert_close(loaded(image, embedding), predictor.half().float()(image, embedding))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such predictor"):
        load_predictor(tmp_path / "none.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_predictor(junk)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, other, {"sam": "tiny"})
    with pytest.raises(ValueError, match="metadata lacks 'sam_sha256'"):
        load_predictor(other)
    predictor = PromptPredictor(4)
    predictor.to_full = torch.nn.Conv2d(16, 8, 3)
    save_predictor(predictor, other)
    with pytest.raises(ValueError, match="not the tensors of a predictor"):
        load_predictor(other)
