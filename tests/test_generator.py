"""Everything mode against segment-anything's own generator, on one model and the same thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from aopsam.generator import AutoMaskGenerator
from aopsam.masks import rle
from aopsam.masks.full_size import trace_full_size
from aopsam.masks.trace import trace
from aopsam.sam.decode import decode_passing, upscale
from aopsam.sam.encode import encode
from aopsam.sam.prompts import Prompts

OPEN = {"pred_iou_thresh": -9.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}


def _pair(model: Sam, **options: object) -> tuple[AutoMaskGenerator, SamAutomaticMaskGenerator]:
    return AutoMaskGenerator(model, **options), SamAutomaticMaskGenerator(model, **options)


def _matched(ours: list[dict], theirs: list[dict], iou: float) -> float:
    """Share of their masks with one of ours at this IoU."""
    overlaps = coco.iou([r["segmentation"] for r in theirs], [r["segmentation"] for r in ours], [0] * len(ours))
    return float((np.asarray(overlaps).max(axis=1) >= iou).mean())


@pytest.mark.parametrize(
    "options",
    [
        {"points_per_side": 4},
        {"points_per_side": 4, "min_mask_region_area": 200},
        {"points_per_side": 4, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2},
        {"point_grids": [np.array([[0.2, 0.3], [0.7, 0.6]])]},
    ],
    ids=["grid", "small-regions", "crops", "point-grids"],
)
def test_equals_sams_own_generator(tiny: Sam, scene: np.ndarray, options: dict) -> None:
    if "min_mask_region_area" in options:
        pytest.importorskip("cv2", reason="segment-anything cleans small regions with OpenCV")
    options = OPEN | {"points_per_side": None, "box_nms_thresh": 0.9, "output_mode": "coco_rle"} | options
    ours, theirs = (generator.generate(scene) for generator in _pair(tiny, **options))
    assert len(ours) == len(theirs) > 3
    assert _matched(ours, theirs, 0.99) == _matched(theirs, ours, 0.99) == 1.0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        assert mine["bbox"] == other["bbox"]
        assert mine["crop_box"] == other["crop_box"]
        assert mine["predicted_iou"] == pytest.approx(other["predicted_iou"], abs=1e-4)


def test_records_have_sams_keys_and_agree_with_their_mask(tiny: Sam, scene: np.ndarray) -> None:
    for record in AutoMaskGenerator(tiny, points_per_side=4, **OPEN).generate(scene)[:5]:
        mask = record["segmentation"]
        rows, columns = np.nonzero(mask)
        assert mask.shape == scene.shape[:2]
        assert mask.dtype == bool
        assert record["area"] == mask.sum()
        x, y, width, height = record["bbox"]
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max(), rows.max())


def test_output_modes_hold_the_same_masks(tiny: Sam, scene: np.ndarray) -> None:
    modes = {
        mode: AutoMaskGenerator(tiny, points_per_side=2, output_mode=mode, **OPEN).generate(scene)
        for mode in ("binary_mask", "coco_rle", "uncompressed_rle")
    }
    for binary, compressed, plain in zip(*modes.values(), strict=True):
        assert (rle.decode(compressed["segmentation"]) == binary["segmentation"]).all()
        assert sum(plain["segmentation"]["counts"]) == binary["segmentation"].size


def test_a_photos_masks_do_not_depend_on_what_came_before(tiny: Sam, scene: np.ndarray) -> None:
    generator = AutoMaskGenerator(tiny, prompts="aop", output_mode="coco_rle")
    alone = generator.generate(scene)
    other = scene[::-1].copy()
    assert generator.generate_batch([other, scene, other])[1] == alone
    assert generator.label(scene, encode(tiny, scene)).records == alone


def test_tracing_equals_masks_made_at_full_size(tiny: Sam, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, and what a CPU does instead."""
    photo = encode(tiny, scene)
    decoded = decode_passing(photo, Prompts.from_points(np.random.default_rng(1).random((20, 2)) * [320, 240]))
    settings = {"threshold": 0.0, "offset": 1.0, "least_stability": 0.7}
    traced = trace(decoded.logits, photo.resampling, **settings)
    made = trace_full_size(upscale(photo, decoded.logits), **settings)
    assert len(traced) == len(made) == 60
    for one, other in zip(traced, made, strict=True):
        assert one.stability == pytest.approx(other.stability, abs=1e-3)
        assert (one.runs is None) == (other.runs is None)
        if one.runs is not None and other.runs is not None:
            overlap = rle.encode(rle.decode(rle.from_runs(one.runs)) & rle.decode(rle.from_runs(other.runs)))
            assert rle.area(overlap) >= 0.999 * max(one.runs.area, other.runs.area)


def test_counts_and_seconds(tiny: Sam, scene: np.ndarray) -> None:
    labelled = AutoMaskGenerator(tiny, prompts="random-7").label(scene)
    assert (labelled.prompts_proposed, labelled.prompts_decoded, labelled.dropped) == (7, 7, {})
    assert set(labelled.seconds) == {"encode", "prompt", "decode", "filter", "rle"}


def test_thresholds_come_from_the_model_unless_given(small_sam: Sam) -> None:
    assert AutoMaskGenerator(small_sam, prompts="grid-2").pred_iou_thresh == small_sam.thresholds.pred_iou_thresh
    assert AutoMaskGenerator(small_sam, prompts="grid-2", pred_iou_thresh=0.5).pred_iou_thresh == 0.5


def test_nothing_above_the_thresholds_gives_no_records(small_sam: Sam, scene: np.ndarray) -> None:
    labelled = AutoMaskGenerator(small_sam, prompts="grid-2", pred_iou_thresh=1e9).label(scene)
    assert labelled.records == []
    assert labelled.prompts_decoded == 4


@pytest.mark.parametrize("hw", [(1, 1), (1, 700), (700, 1), (3, 2)])
def test_odd_sizes(small_sam: Sam, hw: tuple[int, int]) -> None:
    rgb = np.full((*hw, 3), 128, np.uint8)
    for record in AutoMaskGenerator(small_sam, prompts="grid-2", **OPEN).generate(rgb):
        assert record["segmentation"].shape == hw


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"points_per_side": 4, "prompts": "aop"}, "only one of"),
        ({"prompts": "grid-0"}, "at least 1"),
        ({"prompts": "grid"}, "unknown prompt strategy 'grid'; choose from grid-N, random-N, aop"),
        ({"prompts": "grid-N"}, "unknown prompt strategy"),
        ({"prompts": "grid-²"}, "unknown prompt strategy"),
        ({"prompts": "grid-4", "strategy_options": {"colour": 1}}, "colour"),
        ({"prompts": "grid-4", "output_mode": "png"}, "binary_mask"),
        ({"point_grids": [np.zeros((1, 2))], "crop_n_layers": 1}, "crop_n_layers"),
        ({"prompts": "aop", "strategy_options": {"elimination": "paper"}}, "covered, diverse, scaled, equation"),
    ],
)
def test_wrong_arguments_say_what_would_be_right(tiny: Sam, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AutoMaskGenerator(tiny, **options)


def test_a_photo_of_the_wrong_kind_is_refused(small_sam: Sam) -> None:
    with pytest.raises(ValueError, match="uint8"):
        AutoMaskGenerator(small_sam, prompts="grid-2").generate(np.zeros((4, 4, 3), np.float32))
