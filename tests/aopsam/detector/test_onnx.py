"""Detectors that come as ONNX models: small ones made here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from segment_anything.modeling import Sam

from aopsam.detector.onnx import OnnxDetector, letterbox
from aopsam.prompting import make_strategy
from aopsam.prompting.fates import Fates
from aopsam.sam.encode import encode


def _save(
    path: Path,
    boxes: np.ndarray,
    scores: np.ndarray,
    shape: tuple[int | str, ...] = (1, 3, 64, 128),
    name: str = "boxes",
) -> Path:
    """A model that answers with these boxes and scores where the photo is white, with lower scores where it is dark."""
    told = [numpy_helper.from_array(np.float32(array), label) for label, array in (("told", boxes), ("sure", scores))]
    nodes = [
        helper.make_node("Identity", ["told"], [name]),
        helper.make_node("ReduceMax", ["photo"], ["brightest"], keepdims=0),
        helper.make_node("Mul", ["sure", "brightest"], ["scores"]),
    ]
    outputs = [helper.make_tensor_value_info(label, TensorProto.FLOAT, None) for label in (name, "scores")]
    given = [helper.make_tensor_value_info("photo", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "told", given, outputs, told)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_boxes_return_to_the_photos_pixels(tmp_path: Path) -> None:
    """A photo of 100 x 100 lies in the middle 64 x 64 of the frame of 64 x 128."""
    boxes = np.array([[32, 0, 64, 32], [32, 0, 64, 33], [0, 0, 20, 64], [90, 60, 128, 80]])
    detector = OnnxDetector(_save(tmp_path / "told.onnx", boxes[None], np.array([[0.5, 0.9, 0.8, 0.4]])))
    white = np.full((100, 100, 3), 255, np.uint8)
    found, scores = detector.detect(white)
    np.testing.assert_allclose(found, [[0, 0, 50, 51.5625], [90.625, 93.75, 100, 100]], rtol=1e-5)
    assert scores == pytest.approx([0.9, 0.4])
    assert detector.detect(white, nms_thresh=1.0)[1] == pytest.approx([0.9, 0.5, 0.4])
    assert len(detector.detect(white, max_boxes=1)[0]) == 1
    assert detector.detect(np.zeros_like(white))[1][0] == pytest.approx(0.9 * 114 / 255)


def test_the_photo_is_as_large_as_fits_in_the_middle_of_grey() -> None:
    pixels, scale, corner = letterbox(np.full((50, 200, 3), (255, 0, 51), np.uint8), (64, 128))
    assert pixels.shape == (1, 3, 64, 128)
    assert pixels.dtype == np.float32
    assert corner.tolist() == [0, 16]
    assert scale == pytest.approx([0.64] * 4)
    assert pixels[0, :, 32, 64] == pytest.approx([1, 0, 0.2])
    assert pixels[0, :, 15, 64] == pytest.approx([114 / 255] * 3)


def test_the_strategy_takes_a_model(small_sam: Sam, tmp_path: Path) -> None:
    path = _save(tmp_path / "told.onnx", np.array([[0, 0, 64, 32], [64, 32, 128, 64]]), np.array([0.25, 0.75]))
    photo = encode(small_sam, np.full((64, 128, 3), 255, np.uint8))
    strategy = make_strategy("oas-box", small_sam, detector=str(path))
    (prompts,) = strategy.rounds(photo, Fates())
    np.testing.assert_allclose(prompts.coords_px.reshape(-1, 4), [[64, 32, 128, 64], [0, 0, 64, 32]])
    assert (strategy.proposer.detector.sam, len(strategy.proposer.detector.sha256)) == ("", 64)


def test_what_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box, score, path = np.array([[0, 0, 1, 1]]), np.array([0.5]), tmp_path / "model.onnx"
    white = np.full((8, 8, 3), 255, np.uint8)
    with pytest.raises(FileNotFoundError, match=r"model\.onnx: no such detector"):
        OnnxDetector(path)
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"model\.onnx: not a model that ONNX Runtime can read"):
        OnnxDetector(path)
    with pytest.raises(ValueError, match=r"takes .*\['N', 3, 64, 128\].*; one tensor\(float\) of shape \[1, 3, H, W\]"):
        OnnxDetector(_save(path, box, score, ("N", 3, 64, 128)))
    with pytest.raises(ValueError, match=r"its outputs are \['corners', 'scores'\]; 'boxes' and 'scores' must"):
        OnnxDetector(_save(path, box, score, name="corners"))
    with pytest.raises(ValueError, match=r"shapes \(\(1, 5\), \(1,\)\); \(N, 4\) and \(N,\) fit"):
        OnnxDetector(_save(path, np.zeros((1, 5)), score)).detect(white)
    with pytest.raises(ValueError, match="not finite"):
        OnnxDetector(_save(path, box, np.array([np.nan]))).detect(white)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"ONNX Runtime is not installed: pip install 'aopsam\[onnx\]'"):
        OnnxDetector(path)
