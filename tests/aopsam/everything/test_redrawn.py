"""Everything mode with a mask head: which masks are drawn once more, and which stay as the decoder made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aopsam.everything.candidates import Candidate, Crop, Filters, redrawn
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.mask_head.redraw import redraw
from aopsam.mask_head.weights import BUNDLED, find_mask_head
from aopsam.masks import rle
from aopsam.masks.overlap import iou
from aopsam.masks.runs import Runs
from aopsam.sam.decode import decode_passing, upscale
from aopsam.sam.encode import encode
from aopsam.sam.prompts import Prompts
from aopsam.sam.registry import load_sam
from aopsam.scoring.weights import find_scorer
from tests.helpers.made_scenes import made_scene

SCENE = made_scene(0)


def records(**options: object) -> list[dict]:
    return AutoMaskGenerator(load_sam("tiny"), **options).generate(SCENE.rgb)  # type: ignore[arg-type]


def test_no_mask_is_left_whose_score_does_not_pass() -> None:
    """Many that just passed as decoded do not as they are drawn."""
    lenient = [record["score"] for record in records(prompts="grid-8", redraw=False)]
    least = float(np.quantile(lenient, 0.7))
    for how in (False, True):
        scores = [record["score"] for record in records(prompts="grid-8", score_thresh=least, redraw=how)]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] >= least


def test_kept_masks_are_drawn_once_more() -> None:
    lenient: dict[str, Any] = {"prompts": "grid-6", "score_thresh": 0.0, "duplicates": "none"}
    before, after = (
        sorted(records(**lenient, redraw=how), key=lambda r: (r["point_coords"], r["predicted_iou"]))
        for how in (False, None)
    )
    assert len(before) == len(after)
    for name in ("point_coords", "predicted_iou", "crop_box"):
        assert [record[name] for record in before] == [record[name] for record in after]
    model = load_sam("tiny")
    head, photo = find_mask_head(model), encode(model, SCENE.rgb)
    assert head is not None
    for was, now in list(zip(before, after, strict=True))[:8]:
        prompts = Prompts.from_points(np.array(was["point_coords"]))
        with torch.inference_mode():
            logits = decode_passing(photo, prompts).logits
            point = torch.tensor(was["point_coords"]).expand(len(logits), 2)
            masks, drawn = (upscale(photo, each) > 0 for each in (logits, redraw(head, photo, logits.half(), point)))
        which = [i for i, mask in enumerate(masks) if _iou(mask.numpy(), was["segmentation"]) > 0.99]
        assert any(_iou(drawn[i].numpy(), now["segmentation"]) > 0.99 for i in which)
        assert now["area"] == now["segmentation"].sum()
    assert any(not np.array_equal(a["segmentation"], b["segmentation"]) for a, b in zip(before, after, strict=True))


def _iou(left: np.ndarray, right: np.ndarray) -> float:
    return float((left & right).sum() / (left | right).sum())


def test_boxes_are_drawn_better_than_by_the_decoder() -> None:
    model, photo = load_sam("tiny"), encode(load_sam("tiny"), SCENE.rgb)
    head = find_mask_head(model)
    assert head is not None
    truths = np.stack([rle.decode(mask) for mask in SCENE.rles])
    boxes = torch.tensor([Runs.of_mask(mask).box_xyxy_px for mask in truths], dtype=torch.float32)
    logits = decode_passing(photo, Prompts.from_boxes(boxes.numpy())).logits
    quality = []
    for each in (logits, redraw(head, photo, logits, boxes)):
        masks = (upscale(photo, each) > 0).numpy()
        quality.append((masks & truths).sum((1, 2)) / (masks | truths).sum((1, 2)))
    assert quality[1].mean() > quality[0].mean() + 0.01


def test_masks_that_became_the_same_are_one() -> None:
    found = records(prompts="grid-8")
    overlaps = iou([Runs.of_mask(record["segmentation"]) for record in found]) - np.eye(len(found))
    assert overlaps.max() <= 0.7


@pytest.mark.parametrize("options", [{"tile_size": 256, "tile_whole": False}, {"refine": "prose"}], ids=str)
def test_in_tiles_and_after_refinement(options: dict) -> None:
    before, after = (records(prompts="grid-3", redraw=how, **options) for how in (False, True))
    changed = [r for r in after if not any(np.array_equal(r["segmentation"], b["segmentation"]) for b in before)]
    assert changed


@pytest.mark.parametrize("boxes", [False, True])
def test_prompts_are_told_in_pixels_of_the_tile(monkeypatch: pytest.MonkeyPatch, boxes: bool) -> None:
    model = load_sam("tiny")
    photo, head = encode(model, SCENE.rgb), find_mask_head(model)
    assert head is not None
    left, top, (height, width) = 30, 50, photo.hw
    tile = Crop(photo, (left, top, left + width, top + height), (top + height, left + width))
    asked = np.array([[40.0, 60.0, 90.0, 120.0]] if boxes else [[40.0, 60.0]])
    prompts = Prompts.from_boxes(asked) if boxes else Prompts.from_points(asked)
    logits = decode_passing(photo, prompts, multimask=False).logits
    in_photo = Prompts(prompts.coords_px + np.float32([left, top]), prompts.labels, prompts.confidence)
    found = Candidate(Runs.of_mask(SCENE.rgb[..., 0] > 0), 0.9, 0.9, in_photo, 0, None, 0.9, tile.xyxy_px, logits[0])
    told: list[torch.Tensor] = []

    def keep(*given: Any) -> torch.Tensor:
        told.append(given[-1])
        return redraw(*given)

    monkeypatch.setattr("aopsam.everything.candidates.redraw", keep)
    (drawn,) = redrawn(tile, [found], head, Filters(0.0, 0.0, 1.0, cut=True))
    assert [each.tolist() for each in told] == [asked.tolist()]
    assert drawn.runs.hw == (top + height, left + width)
    assert drawn.runs is not found.runs


@pytest.mark.parametrize("boxes", [False, True])
def test_what_is_drawn_is_scored_again(boxes: bool) -> None:
    model = load_sam("tiny")
    photo, head, scorer = encode(model, SCENE.rgb), find_mask_head(model), find_scorer(model)
    assert head is not None
    assert scorer is not None
    asked = np.array([[40.0, 60.0, 90.0, 120.0], [10.0, 20.0, 60.0, 90.0]] if boxes else [[40.0, 60.0], [30.0, 50.0]])
    prompts = Prompts.from_boxes(asked) if boxes else Prompts.from_points(asked)
    decoded = decode_passing(photo, prompts, multimask=False)
    crop = Crop(photo, (0, 0, photo.hw[1], photo.hw[0]), photo.hw)
    runs = Runs.of_mask(SCENE.rgb[..., 0] > 0)
    found = [
        Candidate(runs, float(decoded.predicted_iou[k, 0]), 0.9, prompts[k : k + 1], 0, *scores, crop.xyxy_px, logits)
        for k, (scores, logits) in enumerate(zip(((0.5, 0.5), (0.4, 0.8)), decoded.logits, strict=True))
    ]
    drawn = redraw(head, photo, decoded.logits, torch.from_numpy(asked))
    again = scorer.score(photo, prompts, decoded, anywhere=True, drawn=drawn).tolist()
    first, second = redrawn(crop, found, head, Filters(0.0, 0.0, 1.0), scorer)
    assert [first.mask_score, first.score] == pytest.approx([again[0]] * 2, abs=1e-3)
    # In a tile many masks agreed with it, for which its score was doubled.
    assert [second.mask_score, second.score] == pytest.approx([again[1], 2 * again[1]], abs=2e-3)
    kept = redrawn(crop, found, head, Filters(0.0, 0.0, 1.0))
    assert [(each.mask_score, each.score) for each in kept] == [(0.5, 0.5), (0.4, 0.8)]


def test_a_mask_that_would_be_cut_by_its_crop_stays_as_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_sam("tiny")
    photo, head = encode(model, SCENE.rgb), find_mask_head(model)
    assert head is not None
    height, width = photo.hw
    prompts = Prompts.from_points(np.array([[40.0, 60.0]]))
    logits = decode_passing(photo, prompts, multimask=False).logits
    runs = Runs.of_mask(np.pad(np.ones((20, 20), bool), ((40, height - 60), (30, width + 50))))
    monkeypatch.setattr("aopsam.everything.candidates.redraw", lambda *_: torch.full_like(logits, 5.0))
    for right, cut, stays in ((width + 100, False, True), (width + 100, True, False), (width, False, False)):
        crop = Crop(photo, (0, 0, width, height), (height, right))
        found = Candidate(runs, 0.9, 0.9, prompts, 0, None, 0.9, crop.xyxy_px, logits[0])
        (drawn,) = redrawn(crop, [found], head, Filters(0.0, 0.9, 1.0, cut=cut))
        assert (drawn.runs is runs) == stays


def test_sams_own_masks_stay() -> None:
    for options in ({"points_per_side": 4}, {"prompts": "grid-4", "rank_by": "predicted_iou"}):
        generator = AutoMaskGenerator(load_sam("tiny"), **options)
        assert generator.mask_head is None
    asked = AutoMaskGenerator(load_sam("tiny"), points_per_side=4, redraw=True)
    assert asked.mask_head is not None


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    sam = load_sam("tiny")
    with pytest.raises(ValueError, match="redraw=False: no mask head is asked then; leave out mask_head"):
        AutoMaskGenerator(sam, prompts="grid-4", redraw=False, mask_head=str(BUNDLED))
    with pytest.raises(FileNotFoundError, match="no such mask head"):
        AutoMaskGenerator(sam, prompts="grid-4", mask_head=str(tmp_path / "none"))
    sam.sha256 = "0" * 64
    assert AutoMaskGenerator(sam, prompts="grid-4").mask_head is None
    with pytest.raises(ValueError, match="redraw: no mask head belongs to tiny"):
        AutoMaskGenerator(sam, prompts="grid-4", redraw=True)
