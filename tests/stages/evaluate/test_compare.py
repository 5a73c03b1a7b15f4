"""What is kept of a photo for a set's average precision, and the memory of a piece of work."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from aopsam.everything.ledger import Labelled
from aopsam.metrics import PRECISIONS
from aopsam.sam.encode import encode
from aopsam.sam.registry import load_sam
from stages.config.strategy_spec import StrategySpec
from stages.evaluate.compare import ask_ground_truth, compare, unpacked
from stages.evaluate.ground_truth import Answers
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
