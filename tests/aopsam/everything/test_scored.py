"""Everything mode with a scorer: it filters and ranks; SAM's own parameters know nothing of it."""

from __future__ import annotations

import numpy as np
import pytest

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks.nesting import wholes
from aopsam.masks.overlap import iou
from aopsam.masks.runs import Runs
from aopsam.sam.registry import load_sam
from aopsam.scoring.network import MaskScorer
from tests.helpers.made_scenes import made_scene

RGB = made_scene(0).rgb


def records(**options: object) -> list[dict]:
    return AutoMaskGenerator(load_sam("tiny"), **options).generate(RGB)  # type: ignore[arg-type]


def test_masks_rank_by_their_score() -> None:
    found = records(prompts="grid-8")
    scores = [record["score"] for record in found]
    scorer = AutoMaskGenerator(load_sam("tiny"), prompts="grid-8").scorer
    assert isinstance(scorer, MaskScorer)
    assert len(scores) > 5
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= scorer.score_thresh
    assert [r["predicted_iou"] for r in found] != sorted((r["predicted_iou"] for r in found), reverse=True)
    overlaps = iou([Runs.of_mask(record["segmentation"]) for record in found]) - np.eye(len(found))
    assert overlaps.max() <= 0.7


def test_a_least_score_of_ones_own() -> None:
    all_of_them, some = records(prompts="grid-8", score_thresh=0.0), records(prompts="grid-8", score_thresh=0.5)
    assert 0 < len(some) < len(all_of_them)
    assert min(record["score"] for record in some) >= 0.5


def test_by_predicted_iou_all_is_as_without_a_scorer() -> None:
    found = records(prompts="grid-8", rank_by="predicted_iou")
    assert {record["score"] for record in found} == {None}
    estimates = [record["predicted_iou"] for record in found]
    assert estimates == sorted(estimates, reverse=True)
    as_sam = records(points_per_side=8)
    assert len(as_sam) == len(found)
    for ours, theirs in zip(found, as_sam, strict=True):
        assert np.array_equal(ours.pop("segmentation"), theirs.pop("segmentation"))
        assert ours == theirs


def test_sams_own_grid_ranks_by_score_where_that_is_asked_for() -> None:
    ours, grid = records(points_per_side=8, rank_by="score"), records(prompts="grid-8")
    assert [record["score"] for record in ours] == [record["score"] for record in grid]


def test_refinement_keeps_what_scores_higher() -> None:
    before, after = (
        records(prompts="grid-4", refine=rule, duplicates="none", redraw=False) for rule in (None, "prose")
    )
    assert len(before) == len(after)
    first, second = ({tuple(r["point_coords"][0]): 0.0 for r in before} for _ in range(2))
    for found, best in ((before, first), (after, second)):
        for record in found:
            point = tuple(record["point_coords"][0])
            best[point] = max(best[point], record["score"])
    assert all(second[point] >= first[point] for point in first)
    assert any(second[point] > first[point] for point in first)


def test_wholes_are_the_masks_that_no_better_one_holds() -> None:
    nested, whole = (records(prompts="grid-8", overlap=overlap) for overlap in ("nested", "whole"))
    masks = [Runs.of_mask(record["segmentation"]) for record in nested]
    kept = wholes(masks, np.array([record["score"] for record in nested]))
    assert 0 < len(kept) < len(nested)
    assert [record["score"] for record in whole] == [nested[i]["score"] for i in kept]


def test_a_score_without_a_scorer_is_refused() -> None:
    sam = load_sam("tiny")
    sam.sha256 = "0" * 64
    assert AutoMaskGenerator(sam, prompts="grid-4").scorer is None
    with pytest.raises(ValueError, match="rank_by=score: no scorer belongs to tiny"):
        AutoMaskGenerator(sam, prompts="grid-4", rank_by="score")


def test_a_scorer_that_would_not_be_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="rank_by=predicted_iou, yours or the preset's, asks no scorer"):
        AutoMaskGenerator(load_sam("tiny"), prompts="grid-4", rank_by="predicted_iou", scorer="some.safetensors")
