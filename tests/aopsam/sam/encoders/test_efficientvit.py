"""EfficientViT-SAM-L2 against its reference, by values that tests/helpers/make_golden_encoders.py took from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam.sam.decode import decode_prompts
from aopsam.sam.encode import encode, set_encoder_precision
from aopsam.sam.encoders.efficientvit import efficientvit_sam_l2
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import Thresholds, load_sam
from tests.helpers import golden


@pytest.fixture(scope="module")
def small() -> Sam:
    """The model with random weights that reads 64 px."""
    torch.manual_seed(0)
    return efficientvit_sam_l2(img_size=64)


def test_loads_the_official_file_and_answers_like_the_reference(tmp_path: Path) -> None:
    shapes, expected = golden.load("efficientvit_sam_l2")
    torch.save(golden.random_state(shapes), tmp_path / "efficientvit_sam_l2.pt")
    model = load_sam("efficientvit_sam_l2", tmp_path / "efficientvit_sam_l2.pt")
    golden.assert_same(golden.ours(encode(model, golden.PHOTO)), expected)
    assert model.thresholds == Thresholds()


def test_sam_predictor_gives_the_same_masks(small: Sam) -> None:
    from segment_anything import SamPredictor  # beside a CPU torch, only after aopsam

    predictor = SamPredictor(small)
    predictor.set_image(golden.PHOTO)
    photo = encode(small, golden.PHOTO)
    assert torch.equal(photo.embedding, predictor.features)
    assert photo.content_cells == (6, 8)
    for prompt, options in (
        (Prompts.from_points(golden.POINTS[:1]), {"point_coords": golden.POINTS[:1], "point_labels": np.ones(1)}),
        (Prompts.from_boxes(golden.BOXES[:1]), {"box": golden.BOXES[0]}),
    ):
        _, iou, low_res = predictor.predict(**options)
        logits, scores = decode_prompts(photo, prompt, multimask=True)
        assert scores[0].numpy() == pytest.approx(iou, abs=1e-5)
        assert logits[0].numpy() == pytest.approx(low_res[:, : logits.shape[2]], abs=1e-4)


def test_the_encoder_computes_in_half_precision() -> None:
    torch.manual_seed(0)
    sam = efficientvit_sam_l2(img_size=32)
    exact = encode(sam, golden.PHOTO).embedding
    set_encoder_precision(sam, "bfloat16")
    rounded = encode(sam, golden.PHOTO).embedding
    assert rounded.dtype == torch.float32
    assert torch.cosine_similarity(rounded, exact, dim=1).mean() > 0.98
