"""Everything mode against segment-anything's own generator, on one model and the same thresholds."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam

from aopsam.everything.candidates import Crop, Filters, select
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks import rle
from aopsam.masks.full_size import trace_full_size
from aopsam.masks.small_regions import remove_small_regions
from aopsam.masks.trace import trace
from aopsam.prompting import Decoded, Strategy
from aopsam.prompting.fates import Fates
from aopsam.sam.decode import decode_passing, upscale
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.prompts import Prompts

OPEN_NO_NMS = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
OPEN = OPEN_NO_NMS | {"box_nms_thresh": 1.0}


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
    assert len(ours) == len(theirs) >= 3
    assert _matched(ours, theirs, 0.99) == _matched(theirs, ours, 0.99) == 1.0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys() | {"score", "parent"}
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
    assert (
        AutoMaskGenerator(small_sam, prompts="grid-2").options.pred_iou_thresh == small_sam.thresholds.pred_iou_thresh
    )
    assert AutoMaskGenerator(small_sam, prompts="grid-2", pred_iou_thresh=0.5).options.pred_iou_thresh == 0.5


def test_nothing_above_the_thresholds_gives_no_records(small_sam: Sam, scene: np.ndarray) -> None:
    labelled = AutoMaskGenerator(small_sam, prompts="grid-2", pred_iou_thresh=1.0).label(scene)
    assert labelled.records == []
    assert labelled.prompts_decoded == 4


@pytest.mark.parametrize("hw", [(1, 1), (1, 40), (1, 700), (700, 1), (3, 2), (1, 3000), (3000, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"duplicates": "mask-nms", "refine": "formula", "overlap": "flat", "tile_size": 64, "min_mask_region_area": 5},
        {"duplicates": "merge", "refine": "prose", "tile_size": 200, "tile_whole": False},
        {"crop_n_layers": 2},
        {"crop_n_layers": 1, "crop_overlap_ratio": 0.0},
    ],
    ids=["plain", "flat", "merged", "crops", "crops side by side"],
)
def test_odd_sizes(small_sam: Sam, hw: tuple[int, int], options: dict) -> None:
    rgb = np.full((*hw, 3), 128, np.uint8)
    for record in AutoMaskGenerator(small_sam, prompts="grid-2", **OPEN_NO_NMS, **options).generate(rgb):
        assert record["segmentation"].shape == hw


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"points_per_side": 4, "prompts": "aop"}, "only one of"),
        ({"prompts": "grid-0"}, "at least 1"),
        ({"prompts": "grid"}, "unknown prompt strategy 'grid'; did you mean grid-N"),
        ({"prompts": "grid-N"}, "unknown prompt strategy"),
        ({"prompts": "grid-²"}, "unknown prompt strategy"),
        ({"prompts": "grid-4", "strategy_options": {"colour": 1}}, "colour"),
        ({"prompts": "grid-4", "output_mode": "png"}, "binary_mask"),
        ({"point_grids": [np.zeros((1, 2))], "crop_n_layers": 1}, "crop_n_layers"),
        ({"points_per_side": 4, "strategy_options": {"things": 3}}, "predictor and strategy_options go with prompts"),
        ({"crop_n_layers": 1, "crop_n_points_downscale_factor": 2}, "divides points_per_side"),
        ({"points_per_side": 4, "crop_n_layers": 2, "crop_n_points_downscale_factor": 3}, "no point on layer 2"),
        ({"duplicates": "merge", "box_nms_thresh": 0.5}, "duplicates is merge here, which reads merge_thresh"),
        ({"points_per_side": 4, "score_thresh": 0.5}, "score_thresh=0.5: masks rank by predicted_iou here"),
        ({"points_per_side": 4, "thing_head": "some.safetensors"}, "thing_head: no scorer reads its boxes here"),
        ({"duplicates": "nms"}, "duplicates='nms'; choose from None, box-nms, mask-nms, merge, none"),
        ({"mask_nms_thresh": 1.5}, "mask_nms_thresh=1.5; expected a number from 0 to 1"),
        ({"merge_thresh": float("nan")}, "merge_thresh=nan; expected a number from 0 to 1"),
        ({"refine": "yes"}, "refine='yes'; choose from None, formula, prose"),
        ({"refine_boundary": "both"}, "refine_boundary='both'; choose from negative, positive"),
        ({"overlap": "none"}, "overlap='none'; choose from nested, whole, flat"),
        ({"tile_size": 8}, "tile_size=8; expected a whole number of at least 64 or auto or None"),
        ({"tile_size": "none"}, "tile_size='none'; expected a whole number of at least 64 or auto or None"),
        ({"tile_overlap": 0.0}, "tile_overlap=0.0; expected a number above 0 to 0.5"),
        ({"tile_join_thresh": -1.0}, "tile_join_thresh=-1.0"),
        ({"tile_size": 512, "crop_n_layers": 1}, "tile_size=512 and crop_n_layers exclude each other"),
        ({"tile_size": 512, "point_grids": [np.zeros((1, 2))]}, "tile_size=512 and point_grids exclude each other"),
        (
            {"prompts": "aop", "strategy_options": {"elimination": "paper"}},
            "covered, diverse, relative, scaled, equation",
        ),
    ],
)
def test_wrong_arguments_say_what_would_be_right(tiny: Sam, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AutoMaskGenerator(tiny, **options)


@pytest.mark.parametrize("options", [{"crop_n_layers": 1}, {"tile_size": 128}, {"min_mask_region_area": 200}], ids=str)
def test_records_of_parts_come_by_falling_score(tiny: Sam, scene: np.ndarray, options: dict) -> None:
    records = AutoMaskGenerator(tiny, prompts="grid-4", **options).generate(scene)
    scores = [record["score"] for record in records]
    assert scores == sorted(scores, reverse=True)
    holders = [(record, records[record["parent"]]) for record in records if record["parent"] is not None]
    assert holders
    for inner, outer in holders:
        assert (inner["segmentation"] & outer["segmentation"]).sum() > 0.5 * inner["area"]


def test_a_mask_without_pixels_is_none(tiny: Sam, scene: np.ndarray) -> None:
    photo = encode(tiny, scene)
    decoded = decode_passing(photo, prompts := Prompts.from_points(np.array([[100.0, 100.0]])))
    logits = torch.where(torch.arange(len(decoded.logits))[:, None, None] == 1, decoded.logits, -9.0)
    crop = Crop(photo, (0, 0, 320, 240), (240, 320))
    found, stable = select(crop, prompts, replace(decoded, logits=logits), Filters(0.0, 0.0, 1.0))
    assert [candidate.alternative for candidate in found] == [1]
    assert stable.tolist() == [False, True, False]


def test_an_embedding_of_another_photo_is_refused(tiny: Sam, small_sam: Sam, scene: np.ndarray) -> None:
    for encoded in (encode(tiny, scene[:100]), encode(small_sam, scene)):
        with pytest.raises(ValueError, match=r"encoded is a photo of \(\d+, 320\) by "):
            AutoMaskGenerator(tiny, prompts="grid-2").label(scene, encoded)


def test_a_photo_of_the_wrong_kind_is_refused(small_sam: Sam) -> None:
    with pytest.raises(ValueError, match="uint8"):
        AutoMaskGenerator(small_sam, prompts="grid-2").generate(np.zeros((4, 4, 3), np.float32))


@pytest.mark.parametrize("photo", [None, "photo.jpg", [[1]], Image.new("RGB", (4, 4))])
def test_what_is_no_array_is_refused(small_sam: Sam, photo: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a photo as a NumPy array \(H, W, 3\) uint8, got "):
        AutoMaskGenerator(small_sam, prompts="grid-2").generate(photo)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (4, 4, 1), (0, 4, 3), (4, 0, 3), (3, 4, 4), (1, 4, 4, 3)])
def test_arrays_of_other_shapes_are_refused(small_sam: Sam, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected a photo of shape \(H, W, 3\) and dtype uint8, got "):
        AutoMaskGenerator(small_sam, prompts="grid-2").generate(np.zeros(shape, np.uint8))


class _Boxes(Strategy):
    """A strategy of boxes."""

    def rounds(self, photo: EncodedPhoto, fates: Fates) -> Generator[Prompts, Decoded, None]:
        yield Prompts.from_boxes(np.array([[168, 137, 262, 239], [140, 77, 250, 168], [175, 27, 257, 105]]))


@pytest.mark.parametrize("rule", ["formula", "prose"])
def test_refinement_asks_again_and_keeps_what_is_estimated_higher(tiny: Sam, scene: np.ndarray, rule: str) -> None:
    unranked = {"duplicates": "none", "output_mode": "coco_rle", "rank_by": "predicted_iou"}
    plain, refined = (AutoMaskGenerator(tiny, prompts="grid-4", **unranked, refine=refine) for refine in (None, rule))
    photo = encode(tiny, scene)
    before, after = plain.label(scene, photo), refined.label(scene, photo)
    estimates = [np.array([record["predicted_iou"] for record in one.records]) for one in (before, after)]
    assert (before.prompts_decoded, after.prompts_decoded, before.refinements) == (16, 16, 0)
    assert 0 < after.refinements <= len(before.records)
    assert (estimates[1] >= estimates[0]).all()  # both by falling estimate
    assert (estimates[1] > estimates[0]).any()
    first = {tuple(record["point_coords"][0]) for record in before.records}
    assert {tuple(record["point_coords"][0]) for record in after.records} == first


def test_refinement_of_boxes_and_its_labels(tiny: Sam, scene: np.ndarray) -> None:
    found = []
    for options in ({}, {"refine": "formula"}, {"refine": "formula", "refine_boundary": "positive"}):
        generator = AutoMaskGenerator(
            tiny,
            prompts="grid-1",
            duplicates="none",
            output_mode="coco_rle",
            rank_by="predicted_iou",
            **OPEN_NO_NMS,
            **options,
        )
        generator.strategies = [_Boxes()]
        found.append(generator.label(scene))
    plain, negative, positive = found
    assert (plain.refinements, negative.refinements, positive.refinements) == (0, 3, 3)
    assert len(plain.records) == len(negative.records) == 3
    for before, after in zip(plain.records, negative.records, strict=True):
        assert after["predicted_iou"] >= before["predicted_iou"]
        assert after["point_coords"] == []
        assert len(after["box"]) == 4
    assert negative.records != positive.records


def test_nested_masks_name_their_parent(tiny: Sam, scene: np.ndarray) -> None:
    records = AutoMaskGenerator(tiny, prompts="grid-6").generate(scene)
    links = [record["parent"] for record in records]
    assert any(link is not None for link in links)
    for record, link in zip(records, links, strict=True):
        if link is not None:
            holder = records[link]["segmentation"]
            assert (record["segmentation"] & holder).sum() >= 0.9 * record["area"]
            assert records[link]["area"] > record["area"]


def test_flat_masks_share_no_pixel_and_what_is_covered_is_counted(tiny: Sam, scene: np.ndarray) -> None:
    photo = encode(tiny, scene)
    nested, flat = (
        AutoMaskGenerator(tiny, prompts="grid-6", overlap=overlap).label(scene, photo) for overlap in ("nested", "flat")
    )
    stacks = [np.stack([record["segmentation"] for record in one.records]) for one in (nested, flat)]
    assert stacks[0].sum(axis=0).max() > 1
    assert stacks[1].sum(axis=0).max() == 1
    assert (stacks[0].any(axis=0) == stacks[1].any(axis=0)).all()
    assert len(nested.records) == len(flat.records) + flat.masks_dropped["covered by smaller masks"]
    assert {record["parent"] for record in flat.records} == {None}
    assert all(record["area"] == record["segmentation"].sum() > 0 for record in flat.records)


@pytest.mark.parametrize("duplicates", ["box-nms", "mask-nms", "merge", "none"])
def test_ways_with_duplicates(tiny: Sam, scene: np.ndarray, duplicates: str) -> None:
    photo = encode(tiny, scene)
    options = {"prompts": "grid-4", "output_mode": "coco_rle"}
    everything = AutoMaskGenerator(tiny, duplicates="none", **options).label(scene, photo).records
    left = (
        AutoMaskGenerator(tiny, duplicates=duplicates, min_mask_region_area=50, **options).label(scene, photo).records
    )
    assert 0 < len(left) <= len(everything)
    assert len(left) < len(everything) or duplicates == "none"
    for record in left:
        assert record["area"] == rle.area(record["segmentation"])
        holes_and_islands = remove_small_regions(rle.decode(record["segmentation"]), 50)
        assert not holes_and_islands[1] or duplicates == "merge"  # a union may have new ones
