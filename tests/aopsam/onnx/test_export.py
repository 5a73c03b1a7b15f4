"""Exported networks beside PyTorch's, and a photo's masks by the torch-free example beside the generator's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.onnx.export import EXPORTABLE, FILES, _Decoder, check_exportable, export_sam
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, Thresholds
from examples.onnx_everything import Everything
from tests.helpers import ROOT
from tests.helpers.small_sams import SmallEncoder

WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = sys.modules["aopsam"] = None
runpy.run_path({path!r}, run_name="__main__")
"""


@pytest.fixture(scope="module")
def sam(tiny: Sam) -> Sam:
    """`tiny` at 128 px under another name, so that `tiny` itself proposes for it; each threshold drops some masks."""
    sam = assemble(TinyEncoder(128))
    sam.load_state_dict(tiny.state_dict())
    sam.name, sam.sha256, sam.thresholds = "small", "0" * 64, Thresholds(0.4, 0.8, 0.8)
    return sam


@pytest.fixture(scope="module")
def folder(sam: Sam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    assert sorted(export_sam(sam, folder)) == sorted(FILES)
    return folder


def _run(path: Path, **inputs: Any) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(value, np.float32) for name, value in inputs.items()})


def test_the_encoder_of_tiny_is_pytorchs(folder: Path, tiny: Sam) -> None:
    pixels = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tiny.image_encoder(pixels).numpy()
    (found,) = _run(folder / "proposer_encoder.onnx", pixels=pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("prompts", "points"), [(1, 1), (5, 3)])
def test_the_decoder_has_segment_anythings_interface(folder: Path, sam: Sam, prompts: int, points: int) -> None:
    draw = torch.Generator().manual_seed(0)
    given = {
        "image_embeddings": torch.randn(1, 256, 8, 8, generator=draw),
        "point_coords": 128 * torch.rand(prompts, points, 2, generator=draw),
        "point_labels": torch.randint(-1, 4, (prompts, points), generator=draw).float(),
        "mask_input": torch.randn(1, 1, 32, 32, generator=draw),
        "has_mask_input": torch.tensor([float(points == 3)]),
        "orig_im_size": torch.tensor([90.0, 170.0]),
    }
    expected = SamOnnxModel(sam, return_single_mask=False)(*given.values())
    for found, wanted in zip(_run(folder / "decoder.onnx", **given), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-3, atol=1e-3)
    del given["orig_im_size"]
    for found, wanted in zip(_run(folder / "low_res_decoder.onnx", **given), expected[1:], strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-3, atol=1e-3)


def test_points_that_were_learnt_in_a_larger_square() -> None:
    sam = assemble(SmallEncoder(), prompt_px=256)
    points, labels = torch.tensor([[[10.0, 100.0], [127.0, 3.0]]]), torch.tensor([[1.0, 0.0]])
    expected, _ = sam.prompt_encoder((points, labels), torch.zeros(1, 4), None)
    torch.testing.assert_close(_Decoder(sam)._embed_points(points, labels), expected[:, :2])


def test_everything_without_pytorch(folder: Path, sam: Sam, scene: np.ndarray, tmp_path: Path) -> None:
    """A photo larger than the square, and one that is smaller and higher than wide."""
    path, small = str(tmp_path / "scene.png"), scene[20:110, 40:110]
    Image.fromarray(scene).save(path)
    code = WITHOUT_TORCH.format(path=str(ROOT / "examples/onnx_everything.py"))
    done = subprocess.run([sys.executable, "-c", code, folder, "aop", path], stdout=subprocess.PIPE, check=True)
    points = AutoMaskGenerator(sam, output_mode="coco_rle", strategy_options={"things": 0}).generate(scene)
    _check_alike(json.loads(done.stdout)[path], points)
    grid = AutoMaskGenerator(sam, points_per_side=6, output_mode="coco_rle").generate(small)
    model = Everything(folder)
    _check_alike(model.generate(small, "grid-6"), grid)
    model.about["thresholds"]["pred_iou_thresh"] = 1.0
    assert model.generate(small, "grid-1") == []


def _check_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(expected) > 2
    masks = ([record["segmentation"] for record in records] for records in (expected, found))
    alike = coco.iou(*masks, [0] * len(found)) >= 0.99
    assert alike.any(axis=1).mean() >= 0.98
    assert alike.any(axis=0).mean() >= 0.98
    for one, other in zip(found, expected, strict=True):
        for key in ("area", "bbox", "predicted_iou", "stability_score", "point_coords"):
            np.testing.assert_allclose(one[key], other[key], rtol=0.01, atol=1.0)


def test_what_cannot_be_exported() -> None:
    for name in [*MODELS, "hf:facebook/sam-vit-base"]:
        if name not in EXPORTABLE:
            with pytest.raises(ValueError, match=rf"{re.escape(name)} cannot be exported to ONNX; .* tiny, mobile_sam"):
                check_exportable(name)
