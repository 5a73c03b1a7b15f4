"""What is kept of a photo for a set's average precision, and the memory of a piece of work."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from aopsam.everything.ledger import Labelled
from aopsam.mask_head.redraw import redraw
from aopsam.mask_head.weights import find_mask_head
from aopsam.masks import rle
from aopsam.metrics import PRECISIONS
from aopsam.sam.decode import decode_passing
from aopsam.sam.encode import EncodedPhoto, encode
from aopsam.sam.registry import load_sam
from aopsam.scoring.weights import find_scorer
from stages.config.strategy_spec import StrategySpec, parse_strategies
from stages.evaluate.compare import ask_ground_truth, check_ground_truth, compare, unpacked
from stages.evaluate.ground_truth import Answers, answer, box_prompts, point_prompts, two_point_prompts
from stages.evaluate.peak_memory import peak_memory
from tests.helpers.made_scenes import made_scene
from tests.helpers.made_shard import annotation, rectangle

HW = (96, 128)


def record(mask: np.ndarray, predicted_iou: float, stability: float, score: float | None = None) -> dict:
    return annotation(mask) | {"predicted_iou": predicted_iou, "stability_score": stability, "score": score}


def test_masks_are_ranked_by_the_mean_of_both_scores() -> None:
    truth, other = rectangle(HW, 10, 10, 40, 40), rectangle(HW, 60, 60, 30, 30)
    labelled = Labelled([record(other, 0.95, 0.5), record(truth, 0.8, 0.9)], prompts_decoded=2)
    measured = compare(labelled, [annotation(truth)], [])
    assert not measured.ranked["ap"].found[1].any()
    assert measured.ranked["ap"].found[0].all()
    assert measured.ranked["ap"].scores.tolist() == pytest.approx([0.85, 0.725])
    assert (measured.values["boundary_f"], measured.values["masks_kept"]) == (1, 2)
    learned = Labelled([record(other, 0.1, 0.1, 0.9), record(truth, 0.8, 0.9, 0.7)])
    assert compare(learned, [annotation(truth)], []).ranked["ap"].scores.tolist() == pytest.approx([0.9, 0.7])


def test_of_three_masks_the_model_chooses_one() -> None:
    scene = made_scene(0)
    annotations = [{"segmentation": mask} for mask in scene.rles]
    measured = ask_ground_truth(StrategySpec("gt-point", "gt-point"), encode(load_sam("tiny"), scene.rgb), annotations)
    chosen = measured.values["miou_predicted"], measured.values["miou_score"]
    assert all(0.3 < value < measured.values["miou"] for value in chosen)
    assert measured.values["score_pearson"] > 0.3
    answers = Answers(np.array([[0.1, 0.5, 0.9], [0.2, 0.3, 0.4]]), np.array([[0.9, 0, 0], [0, 0.9, 0]]), None, 0.0)
    assert answers.chosen_by(answers.predicted_iou) == pytest.approx(0.2)


@pytest.fixture(scope="module")
def asked() -> tuple[EncodedPhoto, list[dict]]:
    scene = made_scene(0)
    annotations = [{"segmentation": mask} for mask in scene.rles]
    return encode(load_sam("tiny"), scene.rgb), annotations


def test_with_options_the_mask_counts_that_the_model_would_choose(
    asked: tuple[EncodedPhoto, list[dict]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the decoder made it: by predicted IoU, SAM's own way, no mask is drawn once more."""
    monkeypatch.setattr("stages.evaluate.ground_truth.find_mask_head", lambda model: None)
    photo, annotations = asked
    (spec,) = parse_strategies("gt-point(masks_per_prompt=1)")
    measured = ask_ground_truth(spec, photo, annotations)
    answers = answer(photo, point_prompts(annotations), annotations)
    expected = answers.chosen_by(answers.predicted_iou)
    assert measured.values["miou"] == measured.values["miou_predicted"] == pytest.approx(expected, abs=2e-3)
    assert expected < answers.iou.max(axis=1).mean() - 0.01
    assert measured.values["predicted_iou_pearson"] is not None
    assert (measured.values["masks_kept"], measured.values["refinements"]) == (len(annotations), 0)
    scores = measured.ranked["ap"].scores
    assert (np.diff(scores) <= 0).all()
    assert sorted(scores.tolist()) == pytest.approx(sorted(answers.predicted_iou.max(axis=1).tolist()), abs=1e-5)


def test_scores_are_of_the_masks_as_the_mask_head_draws_them() -> None:
    scene, model = made_scene(2), load_sam("tiny")
    photo, head, scorer = encode(model, scene.rgb), find_mask_head(model), find_scorer(model)
    assert head is not None
    assert scorer is not None
    annotations = [{"segmentation": mask} for mask in scene.rles]
    prompts = box_prompts(annotations)
    decoded = decode_passing(photo, prompts, multimask=True)
    boxes = torch.from_numpy(prompts.places_px).repeat_interleave(3, 0)
    expected = scorer.score(photo, prompts, decoded, drawn=redraw(head, photo, decoded.logits, boxes))
    answers = answer(photo, prompts, annotations)
    assert answers.score == pytest.approx(expected.view(-1, 3).numpy(), abs=1e-5)
    assert answers.score != pytest.approx(scorer.score(photo, prompts, decoded).view(-1, 3).numpy(), abs=1e-2)


def test_a_refined_mask_is_that_of_its_own_prompt(asked: tuple[EncodedPhoto, list[dict]]) -> None:
    """Estimates do not fall, passes are counted, and the order of the masks that are asked for changes nothing."""
    photo, annotations = asked
    names = "gt-points-2(masks_per_prompt=1),gt-points-2(refine=formula),gt-points-2(refine=prose,refine_points=alone)"
    plain, refined, alone = (ask_ground_truth(spec, photo, annotations) for spec in parse_strategies(names))
    for other in (refined, alone):
        assert other.values["refinements"] == other.values["prompts_decoded"] == len(annotations)
        assert (np.sort(other.ranked["ap"].scores) >= np.sort(plain.ranked["ap"].scores)).all()
        assert other.values["miou"] != plain.values["miou"]
    assert refined.values["miou"] != alone.values["miou"]
    backwards = ask_ground_truth(parse_strategies(names)[1], photo, annotations[::-1])
    assert backwards.values["miou"] == pytest.approx(refined.values["miou"], abs=2e-3)


def test_two_points_lie_in_their_mask_and_are_the_same_each_time() -> None:
    masks = [rectangle(HW, 10, 10, 40, 40), rectangle(HW, 60, 60, 30, 30), rectangle(HW, 5, 7, 1, 1)]
    annotations = [annotation(mask) for mask in masks]
    prompts = two_point_prompts(annotations)
    assert prompts.labels.tolist() == [[1, 1, -1]] * 3
    for mask, ((x, y), (x_2, y_2), _) in zip(masks, prompts.coords_px.astype(int), strict=True):
        assert mask[y, x]
        assert mask[y_2, x_2]
    assert (prompts.coords_px[:2, 0] != prompts.coords_px[:2, 1]).any(axis=1).all()
    again = two_point_prompts(annotations[1:])
    assert (again.coords_px == prompts.coords_px[1:]).all()
    assert rle.decode(annotations[2]["segmentation"]).sum() == 1
    assert len(two_point_prompts([])) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "gt-points-2(box_nms_thresh=0.5)",
            "unknown option 'box_nms_thresh'; choose from masks_per_prompt, single_mask",
        ),
        ("gt-point(masks_per_prompt=3)", "three masks a prompt; write gt-point$"),
    ],
)
def test_other_options_of_the_ground_truths_prompts_are_refused(text: str, said: str) -> None:
    (spec,) = parse_strategies(text)
    with pytest.raises(ValueError, match=said):
        check_ground_truth(spec)


def test_what_average_precision_needs_survives_the_table() -> None:
    truth, crowd = rectangle(HW, 10, 10, 40, 40), rectangle(HW, 60, 60, 30, 30)
    near = rectangle(HW, 12, 10, 40, 40)
    labelled = Labelled([record(crowd, 0.9, 0.9), record(near, 0.8, 0.8)])
    measured = compare(labelled, [annotation(truth) | {"declared_area": 900.0}], [annotation(crowd)["segmentation"]])
    assert measured.values["small_truths"] == 1
    rows = {row["metric"]: row for row in measured.rows()}
    for name in PRECISIONS:
        before = measured.ranked[name]
        after = unpacked(rows[name]["ranked"], before.ground_truths)
        assert (after.found == before.found).all()
        assert (after.ignored == before.ignored).all()
        assert after.scores.tolist() == before.scores.tolist()
    assert measured.ranked["ap"].ignored[0].all()  # on the crowd
    assert 0 < rows["ap"]["value"] < 1
    assert rows["ap_large"]["value"] is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's mark is Linux's")
def test_memory_that_is_taken_and_given_back_is_seen() -> None:
    kept = np.ones(20_000_000)

    def work() -> None:
        np.ones(10_000_000).sum()

    taken = [peak_memory(work) for _ in range(2)]
    assert all(amount is not None and 75e6 < amount < 120e6 for amount in taken)
    assert kept.sum() == 20_000_000
    small = peak_memory(lambda: None)
    assert small is not None
    assert small < 20e6
