"""Training a scorer: what it learns from, that it learns, and its thresholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.mask_head.weights import find_mask_head
from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from aopsam.scoring.features import FEATURES
from aopsam.training.recipes import ScorerRecipe
from aopsam.training.scorer import Examples, NothingToLearn, choose_scorer_thresholds, fit_scorer, make_examples
from tests.helpers.made_scenes import made_scene

RECIPE = ScorerRecipe(prompts=6, boxes=0.5, free=5, steps=300)


def test_examples_are_all_three_masks_of_every_prompt() -> None:
    sam, scene = load_sam("tiny"), made_scene(0)
    asked = min(6, len(scene.rles))
    points, boxes = make_examples(sam, scene, RECIPE, sparse=False)
    assert points.features.shape == (3 * (asked + 5), len(FEATURES))
    assert torch.isnan(points.asked_iou).sum() == 3 * 5
    assert boxes.features[:, FEATURES.index("is_box")].eq(1).all()
    things = encode(sam, scene.rgb).things
    assert things is not None
    assert torch.isnan(boxes.asked_iou).sum() == 3 * min(8, len(things.scores)) > 0
    for examples in (points, boxes):
        known = ~torch.isnan(examples.asked_iou)
        assert (examples.iou[known] >= examples.asked_iou[known]).all()
        assert examples.asked_iou[known].view(-1, 3).amax(1).mean() > 0.6  # the very masks that were asked for
    sparse, boxes = make_examples(sam, scene, RECIPE, sparse=True)
    assert not torch.isnan(boxes.asked_iou).any()
    assert len(sparse.iou) == 3 * asked
    again, _ = make_examples(sam, scene, RECIPE, sparse=True)
    assert torch.equal(sparse.features, again.features)
    other, _ = make_examples(sam, scene, replace(RECIPE, seed=1), sparse=True)
    assert not torch.equal(sparse.features, other.features)


def test_what_a_mask_head_draws_is_an_example_too() -> None:
    sam, scene = load_sam("tiny"), made_scene(0)
    head = find_mask_head(sam)
    decoded = make_examples(sam, scene, RECIPE, sparse=True)
    both = make_examples(sam, scene, RECIPE, sparse=True, mask_head=head)
    assert [len(found.iou) for found in both] == [len(found.iou) for found in decoded for _ in range(2)]
    for before, same, after in zip(decoded, both[::2], both[1::2], strict=True):
        assert torch.equal(same.features, before.features)
        assert not same.features[:, FEATURES.index("is_drawn")].any()
        assert after.features[:, FEATURES.index("is_drawn")].all()
        assert after.features[:, FEATURES.index("unchanged")].mean() < 0.99
        assert not torch.equal(after.iou, before.iou)


def test_a_scorer_learns_what_its_numbers_say() -> None:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(2000, len(FEATURES), generator=rng)
    iou = (features[:, 3] + 0.5 * features[:, 9]).sigmoid()
    asked = torch.where(torch.rand(2000, generator=rng) < 0.5, torch.nan, iou * (features[:, 5] > 0))
    photos = [Examples(*part) for part in zip(*(all_.split(50) for all_ in (features, iou, asked)), strict=True)]
    scorer = fit_scorer(photos[:30], replace(RECIPE, steps=1000))
    held_out = torch.cat([p.features for p in photos[30:]])
    best, wanted = scorer(held_out).sigmoid().unbind(1)
    assert (best - iou[1500:]).abs().mean() < 0.04
    assert (wanted - asked[1500:]).abs().nanmean() < 0.1  # nothing is learnt where nothing was asked for
    brief = replace(RECIPE, steps=20)
    assert torch.equal(fit_scorer(photos[:30], brief)(held_out), fit_scorer(photos[:30], brief)(held_out))
    with pytest.raises(NothingToLearn):
        fit_scorer([], RECIPE)


def test_thresholds_leave_the_wanted_number_of_masks() -> None:
    sam, scene = load_sam("tiny"), made_scene(1)
    examples = [e for seed in range(2, 5) for e in make_examples(sam, made_scene(seed), RECIPE, sparse=False)]
    scorer = fit_scorer(examples, RECIPE)
    choose_scorer_thresholds(sam, scorer, [scene], masks_a_photo=20)
    assert 0 < scorer.score_thresh < 1
    generator = AutoMaskGenerator(
        sam, prompts="grid-16", duplicates="box-nms", stability_score_thresh=0.0, redraw=False
    )
    generator.scorer = scorer
    generator.options = replace(generator.options, score_thresh=scorer.score_thresh, pred_iou_thresh=0.0)
    scores = np.array([record["score"] for record in generator.generate(scene.rgb)])
    assert abs(len(scores) - 20) <= 5  # pixels count at their full number here
    assert (scores >= scorer.score_thresh).all()
    more = scorer.score_thresh
    choose_scorer_thresholds(sam, scorer, [scene], masks_a_photo=60)
    assert scorer.score_thresh < more
