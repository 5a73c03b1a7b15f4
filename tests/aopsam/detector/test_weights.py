from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam

from aopsam.detector.network import BoxDetector
from aopsam.detector.weights import load_detector, save_detector


def test_a_saved_detector_returns_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = BoxDetector(12, levels=3, width=8)
    detector(torch.randn(4, 12, 8, 8))  # moves the running statistics
    detector.sam, detector.sam_sha256 = "tiny", "ab" * 32
    path = tmp_path / "detector.safetensors"
    save_detector(detector, path, {"seed": "0"})
    loaded = load_detector(path)
    assert (loaded.sam, loaded.sam_sha256) == ("tiny", "ab" * 32)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.training
    embedding = torch.randn(1, 12, 8, 8)
    for mine, theirs in zip(detector.eval().half().float()(embedding), loaded(embedding), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_the_file_is_small(tmp_path: Path) -> None:
    path = tmp_path / "detector.safetensors"
    save_detector(BoxDetector(), path)
    assert path.stat().st_size < 2**20


def test_the_bundled_detector_belongs_to_the_bundled_tiny(tiny: Sam) -> None:
    detector = load_detector()
    assert (detector.sam, detector.sam_sha256) == ("tiny", tiny.sha256)
    assert detector.embedding_channels == 256


def test_weights_that_half_precision_cannot_hold_are_not_written(tmp_path: Path) -> None:
    detector = BoxDetector(4, levels=2, width=8)
    with torch.no_grad():
        detector.answer[0].bias[0] = 1e6
    with pytest.raises(ValueError, match=r"not finite in half precision: answer\.0\.bias"):
        save_detector(detector, tmp_path / "detector.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such detector; train one with pipelines/train_detector\.py"):
        load_detector(tmp_path / "none.safetensors")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_detector(junk)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, other, {"sam": "tiny"})
    with pytest.raises(ValueError, match="metadata lacks 'sam_sha256'"):
        load_detector(other)
    detector = BoxDetector(4, levels=2, width=8)
    detector.width = 16
    save_detector(detector, other)
    with pytest.raises(ValueError, match="not the tensors of a detector"):
        load_detector(other)
