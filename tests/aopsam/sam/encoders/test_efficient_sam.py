"""EfficientSAM against its reference implementation, by values of tests/helpers/make_golden_encoders.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from aopsam import AutoMaskGenerator
from aopsam.sam.decode import decode_passing, decode_prompts, upscale
from aopsam.sam.decoders.efficient_sam import EfficientSam, efficient_sam_ti
from aopsam.sam.encode import encode, set_encoder_precision
from aopsam.sam.encoders.efficient_sam import EfficientSamEncoder
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import Thresholds, load_sam
from tests.helpers import golden


@pytest.fixture(scope="module")
def small() -> EfficientSam:
    """EfficientSAM-Ti with random weights that reads 128 px."""
    torch.manual_seed(0)
    return efficient_sam_ti(img_size=128)


@pytest.mark.parametrize("name", ["efficient_sam_ti", "efficient_sam_s"])
def test_loads_the_official_file_and_answers_like_the_reference(name: str, tmp_path: Path) -> None:
    shapes, expected = golden.load(name)
    torch.save({"model": golden.random_state(shapes)}, tmp_path / "official.pt")
    model = load_sam(name, tmp_path / "official.pt")
    golden.resize_square(model.image_encoder, model.prompt_encoder, golden.SQUARE_PX[name])
    golden.assert_same(golden.ours(encode(model, golden.PHOTO)), expected)
    assert (model.thresholds.pred_iou_thresh, model.thresholds.stability_score_thresh) == (0.70, 0.90)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("boxes", [True, False])
def test_the_fast_decoder_is_the_plain_one(small: EfficientSam, multimask: bool, boxes: bool) -> None:
    photo = encode(small, golden.PHOTO)
    coords = np.random.default_rng(0).random((5, 2, 2)).astype(np.float32) * [400, 300]
    prompts = Prompts.from_boxes(coords.reshape(5, 4)) if boxes else Prompts.from_points(coords[:, 0])
    scaled = torch.from_numpy(coords).float() * torch.tensor([128 / 400, 128 / 300])
    points = None if boxes else (scaled[:, :1], torch.ones(5, 1))
    sparse, dense = small.prompt_encoder(points=points, boxes=scaled.reshape(5, 4) if boxes else None, masks=None)
    with torch.inference_mode():
        logits, iou = small.mask_decoder(photo.embedding, small.prompt_encoder.get_dense_pe(), sparse, dense, multimask)
    decoded = decode_passing(photo, prompts, multimask=multimask)
    assert torch.allclose(decoded.predicted_iou, iou, atol=1e-5)
    assert torch.allclose(decoded.logits, logits.flatten(0, 1), atol=1e-4)


def test_masks_do_not_depend_on_the_batch(small: EfficientSam) -> None:
    photo = encode(small, golden.PHOTO)
    together, alone = (
        decode_prompts(photo, Prompts.from_points(golden.POINTS), points_per_batch=count)[0] for count in (2, 1)
    )
    assert torch.allclose(together, alone, atol=1e-5)


def test_half_precision(small: EfficientSam) -> None:
    exact = encode(small, golden.PHOTO).embedding
    half = efficient_sam_ti(img_size=128)
    half.load_state_dict(small.state_dict())
    set_encoder_precision(half, "bfloat16")
    assert torch.cosine_similarity(encode(half, golden.PHOTO).embedding, exact, dim=1).mean() > 0.99
    photo = encode(half.half(), golden.PHOTO)
    assert photo.embedding.dtype == torch.float16
    logits, iou = decode_prompts(photo, Prompts.from_points(golden.POINTS))
    expected, expected_iou = decode_prompts(encode(small, golden.PHOTO), Prompts.from_points(golden.POINTS))
    assert torch.allclose(iou, expected_iou, atol=2e-2)
    assert ((logits > 0) == (expected > 0)).float().mean() > 0.97


def test_sam_predictor_accepts_it_and_masks_as_prompts_are_refused(small: EfficientSam) -> None:
    from segment_anything import SamPredictor  # beside a CPU torch, only after aopsam

    predictor = SamPredictor(small)
    predictor.set_image(golden.PHOTO)
    masks, iou, low_res = predictor.predict(golden.POINTS, np.ones(2), box=golden.BOXES[0])
    assert (masks.shape, iou.shape) == ((3, 300, 400), (3,))
    with pytest.raises(ValueError, match="no mask as a prompt"):
        predictor.predict(golden.POINTS, np.ones(2), mask_input=low_res[:1])


def test_masks_are_enlarged_to_the_photo_in_one_step(small: EfficientSam) -> None:
    small.name, small.sha256 = "small", "0" * 64
    small.thresholds = Thresholds(pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    generator = AutoMaskGenerator(small, prompts="grid-2")
    photo = encode(small, golden.PHOTO)
    points = generator.strategies[0].points * [400, 300]
    logits, _ = decode_prompts(photo, Prompts.from_points(points))
    enlarged = torch.nn.functional.interpolate(logits, (300, 400), mode="bilinear", align_corners=False).flatten(0, 1)
    assert torch.allclose(upscale(photo, logits.flatten(0, 1)), enlarged, atol=1e-5)
    drawn = (enlarged > 0).numpy()
    records = generator.generate(golden.PHOTO)
    assert records
    for record in records:  # but for logits that are 0 up to rounding
        assert (drawn != record["segmentation"]).sum(axis=(1, 2)).min() <= 10


def test_tiny_proposes_for_it(small: EfficientSam) -> None:
    labelled = AutoMaskGenerator(small, prompts="aop").label(golden.PHOTO[:100, :150])
    assert labelled.prompts_decoded > 0
    assert labelled.records


def with_positions(side: int) -> EfficientSamEncoder:
    """EfficientSAM-Ti's encoder with random weights, and positions that say something."""
    torch.manual_seed(0)
    encoder = efficient_sam_ti(img_size=side).image_encoder
    torch.nn.init.normal_(encoder.pos_embed, std=0.5)
    return encoder


@torch.no_grad()
def test_visible_tokens_are_those_of_all_tokens_with_the_others_never_attended_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder, pixels = with_positions(128), torch.randn(2, 3, 128, 128)
    order = torch.stack([torch.randperm(64) for _ in range(2)])
    visible = (order < 16).view(2, 8, 8)
    found = encoder.tokens(pixels, visible)
    attention = functional.scaled_dot_product_attention
    monkeypatch.setattr(
        functional,
        "scaled_dot_product_attention",
        lambda q, k, v: attention(q, k, v, attn_mask=visible.view(2, 1, 1, 64)),
    )
    expected = encoder.tokens(pixels)[visible.flatten(1)].view(2, 16, -1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_neck_reads_the_features_at_any_size() -> None:
    encoder = with_positions(128)
    for side in (128, 224):
        pixels = torch.randn(1, 3, side, side)
        features = encoder.features(pixels)
        assert features.shape == (1, 192, side // 16, side // 16)
        assert torch.equal(encoder.neck(features), encoder(pixels))
