"""SAM 2's image models against their reference, by values that tests/helpers/make_golden_encoders.py took from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aopsam import AutoMaskGenerator
from aopsam.sam.checkpoints import CheckpointError
from aopsam.sam.decode import decode_passing, decode_prompts
from aopsam.sam.decoders.sam2 import SAM2_MODELS, Sam2
from aopsam.sam.encode import encode, set_encoder_precision
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import MODELS, Thresholds, load_sam
from tests.helpers import golden
from tests.helpers.made_detector import ToldDetector

POINTS = Prompts.from_points(golden.POINTS)


@pytest.fixture(scope="module")
def small() -> Sam2:
    """The T model with random weights that reads 128 px."""
    torch.manual_seed(0)
    return SAM2_MODELS["hiera_t"](img_size=128)


def write_file(path: Path, state: dict[str, torch.Tensor]) -> Path:
    """Write a checkpoint in the layout in which the authors publish it."""
    torch.save({"model": state}, path)
    return path


def test_loads_the_official_file_and_answers_like_the_reference(tmp_path: Path) -> None:
    shapes, expected = golden.load("sam2_hiera_t")
    model = load_sam("sam2.1_hiera_t", write_file(tmp_path / "official.pt", golden.random_state(shapes)))
    assert (model.thresholds.pred_iou_thresh, model.thresholds.stability_score_thresh) == (0.80, 0.95)
    golden.resize_square(model.image_encoder, model.prompt_encoder, golden.SQUARE_PX["sam2_hiera_t"])
    golden.assert_same(golden.ours(encode(model, golden.PHOTO)), expected)


def test_files_of_2_0_have_fewer_modules_for_videos(tmp_path: Path) -> None:
    shapes, _ = golden.load("sam2_hiera_t")
    state = {
        name: torch.zeros(1).expand(shape)  # takes no room in the file
        for name, shape in shapes.items()
        if not name.startswith(("no_obj_embed_spatial", "obj_ptr_tpos_proj"))
    }
    path = write_file(tmp_path / "official.pt", state)
    assert len(load_sam("sam2_hiera_t", path).state_dict()) == 311
    for name in ("no_mem_embed", "sam_mask_decoder.conv_s0.bias"):
        del state[name]
    with pytest.raises(CheckpointError, match=r"official\.pt does not fit .* missing: .*conv_s0\.bias") as caught:
        load_sam("sam2_hiera_t", write_file(path, state))
    assert "no_mem_embed" in str(caught.value)


@pytest.mark.parametrize("name", ["sam2_hiera_s", "sam2_hiera_b+", "sam2_hiera_l"])
def test_larger_models_answer_like_the_reference(name: str) -> None:
    shapes, expected = golden.load(name)
    model, state = _empty(name), MODELS[name].part(golden.random_state(shapes))
    model.load_state_dict(state, strict=True, assign=True)
    golden.resize_square(model.image_encoder, model.prompt_encoder, golden.SQUARE_PX[name])
    golden.assert_same(golden.ours(encode(model, golden.PHOTO)), expected)


def _empty(name: str) -> Sam2:
    """Without drawing weights, of which L has 217 million."""
    with torch.device("meta"):
        model = MODELS[name].build()
    for part, buffer in (("pixel_mean", (123.675, 116.28, 103.53)), ("pixel_std", (58.395, 57.12, 57.375))):
        setattr(model, part, torch.tensor(buffer).view(3, 1, 1))
    return model


def test_a_mask_is_stable_by_the_areas_between_two_thresholds(small: Sam2) -> None:
    logits = torch.full((4, 10, 10), -1.0)
    logits[1:, :5] = 1.0
    logits[2, 0, 0] = 0.0  # 49 of 50
    logits[3, 0, :2] = 0.0  # 48 of 50
    assert small.mask_decoder.is_stable(logits).tolist() == [True, True, True, False]


def test_one_mask_is_the_single_one_or_the_surest_of_three(small: Sam2, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = encode(small, golden.PHOTO)
    prompts = Prompts.from_points(np.random.default_rng(0).random((24, 2)) * [400, 300])
    several, several_iou = decode_prompts(photo, prompts, multimask=True)
    rows, surest = torch.arange(len(prompts)), several_iou.argmax(dim=1)

    def at(bar: float) -> tuple[torch.Tensor, torch.Tensor]:
        monkeypatch.setattr(small.mask_decoder, "is_stable", lambda logits: logits[:, 3, 3] >= bar)
        return decode_prompts(photo, prompts, multimask=False)

    single, single_iou = at(-np.inf)
    bar = float(single[:, 0, 3, 3].sort().values[11:13].mean())  # between two: rounding decides nothing
    stable = single[:, 0, 3, 3] >= bar
    mixed, mixed_iou = at(bar)
    assert torch.allclose(mixed[stable], single[stable], atol=1e-5)
    assert torch.allclose(mixed[~stable, 0], several[rows, surest][~stable], atol=1e-5)
    assert torch.allclose(mixed_iou[:, 0], torch.where(stable, single_iou[:, 0], several_iou[rows, surest]), atol=1e-6)
    least = float(mixed_iou.flatten().sort().values[11:13].mean())
    some = decode_passing(photo, prompts, multimask=False, min_iou=least, points_per_batch=5)
    assert some.index.tolist() == (mixed_iou > least).nonzero().tolist()
    assert torch.allclose(some.logits, mixed[mixed_iou > least], atol=1e-5)


def test_half_precision(small: Sam2) -> None:
    exact = encode(small, golden.PHOTO)
    half = SAM2_MODELS["hiera_t"](img_size=128)
    half.load_state_dict(small.state_dict())
    set_encoder_precision(half, "bfloat16")
    assert torch.cosine_similarity(encode(half, golden.PHOTO).embedding, exact.embedding, dim=1).mean() > 0.99
    logits, iou = decode_prompts(encode(half.half(), golden.PHOTO), POINTS)
    expected, expected_iou = decode_prompts(exact, POINTS)
    assert torch.allclose(iou, expected_iou, atol=2e-2)
    assert ((logits > 0) == (expected > 0)).float().mean() > 0.95


def test_sam_predictor_is_refused_with_the_reason(small: Sam2) -> None:
    from segment_anything import SamPredictor  # beside a CPU torch, only after aopsam

    with pytest.raises(TypeError, match=r"several levels of features.* use aopsam\.AutoMaskGenerator"):
        SamPredictor(small).set_image(golden.PHOTO)


@pytest.mark.parametrize("prompts", ["aop", "oas-box", "hierarchical"])
def test_strategies_work(small: Sam2, prompts: str) -> None:
    small.name, small.sha256 = "small", "0" * 64
    small.thresholds = Thresholds(pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    detector = ToldDetector(small, [[1, 1, 2, 3]], [0.5])
    options = {
        "aop": {},
        "oas-box": {"detector": detector, "max_boxes": 1},
        "hierarchical": {"sparse": 2, "dense": 3},
    }
    generator = AutoMaskGenerator(small, prompts=prompts, strategy_options=options[prompts])
    labelled = generator.label(golden.PHOTO[:100, :150])
    assert labelled.prompts_decoded > 0
    assert labelled.records
    if prompts == "oas-box":  # cells of 8 x 8, stretched over 150 x 100
        assert labelled.records[0]["box"] == pytest.approx([18.75, 12.5, 37.5, 37.5])
