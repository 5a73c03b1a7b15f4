"""EfficientViT-SAM-L2 against its reference, by values that tests/make_golden_encoders.py took from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.sam.decode import decode_prompts
from aopsam.sam.encode import encode, set_encoder_precision
from aopsam.sam.encoders.efficientvit import efficientvit_sam_l2
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import load_sam
from tests import golden


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Sam:
    shapes, _ = golden.load("efficientvit_sam_l2")
    path = tmp_path_factory.mktemp("weights") / "efficientvit_sam_l2.pt"
    torch.save(golden.random_state(shapes), path)
    return load_sam("efficientvit_sam_l2", path)


def test_the_official_file_answers_like_the_reference(model: Sam) -> None:
    _, expected = golden.load("efficientvit_sam_l2")
    golden.assert_same(golden.ours(encode(model, golden.PHOTO)), expected)


def test_sam_predictor_gives_the_same_masks(model: Sam) -> None:
    from segment_anything import SamPredictor  # beside a CPU torch, only after aopsam

    predictor = SamPredictor(model)
    predictor.set_image(golden.PHOTO)
    photo = encode(model, golden.PHOTO)
    assert torch.equal(photo.embedding, predictor.features)
    assert photo.content_cells == (48, 64)
    _, iou, low_res = predictor.predict(golden.POINTS[:1], np.ones(1))
    logits, scores = decode_prompts(photo, Prompts.from_points(golden.POINTS[:1]))
    assert scores[0].numpy() == pytest.approx(iou, abs=1e-5)
    assert logits[0].numpy() == pytest.approx(low_res[:, : logits.shape[2]], abs=1e-4)


def test_half_precision() -> None:
    torch.manual_seed(0)
    sam = efficientvit_sam_l2(img_size=64)
    exact = encode(sam, golden.PHOTO).embedding
    for precision in ("bfloat16", "float16"):
        set_encoder_precision(sam, precision)
        rounded = encode(sam, golden.PHOTO).embedding
        assert rounded.dtype == torch.float32
        assert torch.cosine_similarity(rounded, exact, dim=1).mean() > 0.98
    logits, _ = decode_prompts(encode(sam.half(), golden.PHOTO), Prompts.from_points(golden.POINTS))
    assert torch.isfinite(logits).all()
