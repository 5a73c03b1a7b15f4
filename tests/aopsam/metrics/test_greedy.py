"""The three readings of greedy mIoU on hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from aopsam.metrics import average_recall, iou_matrix, iou_one_to_one, iou_per_ground_truth, iou_per_prediction
from aopsam.metrics.greedy import one_to_one

READINGS = (iou_per_ground_truth, iou_per_prediction, iou_one_to_one)


def test_perfect_masks_score_one_in_every_reading() -> None:
    for reading in READINGS:
        assert reading(np.eye(3)) == 1.0


def test_readings_differ_where_two_predictions_share_an_object() -> None:
    # Predictions 0 and 1 both cover object 0; nobody has object 1 but prediction 0, a little.
    iou = np.array([[0.9, 0.3], [0.8, 0.0]])
    assert iou_per_ground_truth(iou) == pytest.approx((0.9 + 0.3) / 2)
    assert iou_per_prediction(iou) == pytest.approx((0.9 + 0.8) / 2)
    assert iou_one_to_one(iou) == pytest.approx(0.9 / 2)


def test_one_to_one_pairs_by_falling_iou_not_for_the_best_sum() -> None:
    # Greedy takes 0.6 and leaves 0.1; the best assignment would be 0.5 + 0.5.
    assert iou_one_to_one(np.array([[0.6, 0.5], [0.5, 0.1]])) == pytest.approx((0.6 + 0.1) / 2)


def test_pairs_have_at_least_the_iou_asked_for_and_each_mask_one_partner() -> None:
    iou = np.array([[0.6, 0.5, 0.0], [0.55, 0.1, 0.0]])
    assert one_to_one(iou) == [(0, 0), (1, 1)]
    assert one_to_one(iou, least_iou=0.6) == [(0, 0)]
    assert one_to_one(np.zeros((2, 0))) == []


def test_one_to_one_counts_unmatched_ground_truths_as_zero() -> None:
    assert iou_one_to_one(np.array([[0.5, 0.4, 0.3]])) == pytest.approx(0.5 / 3)


def test_spare_predictions_cost_the_second_reading_alone() -> None:
    iou = np.array([[1.0], [0.0], [0.0]])
    assert [reading(iou) for reading in READINGS] == pytest.approx([1.0, 1 / 3, 1.0])


def test_ties_do_not_lose_a_pair() -> None:
    assert iou_one_to_one(np.full((2, 2), 0.5)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 0), (None, None, None)), ((0, 3), (0.0, None, 0.0)), ((0, 0), (None, None, None))],
)
def test_the_empty_set(shape: tuple[int, int], expected: tuple[float | None, ...]) -> None:
    assert tuple(reading(np.zeros(shape)) for reading in READINGS) == expected


def test_squares_with_known_overlap() -> None:
    ground_truth = np.zeros((2, 20, 20), dtype=bool)
    ground_truth[0, 0:10, 0:10] = True
    ground_truth[1, 10:20, 10:20] = True
    predicted = np.zeros((2, 20, 20), dtype=bool)
    predicted[0, 0:10, 0:5] = True  # half of the first: 50 / 100
    predicted[1, 5:15, 5:15] = True  # a quarter of each: 25 / 175
    iou = iou_matrix(predicted, ground_truth)
    assert iou_per_ground_truth(iou) == pytest.approx((0.5 + 1 / 7) / 2)
    assert iou_per_prediction(iou) == pytest.approx((0.5 + 1 / 7) / 2)
    assert iou_one_to_one(iou) == pytest.approx((0.5 + 1 / 7) / 2)


def test_dropping_predictions_never_raises_the_first_reading() -> None:
    iou = np.random.default_rng(0).random((20, 6))
    scores = [iou_per_ground_truth(iou[:kept]) for kept in range(21)]
    assert scores == sorted(scores)


@pytest.mark.parametrize("broken", [np.zeros(3), np.array([[np.nan]]), np.array([[1.5]]), np.array([[-1.0]])])
def test_what_is_no_iou_matrix_is_refused(broken: np.ndarray) -> None:
    for metric in (*READINGS, lambda iou: average_recall(iou, 10)):
        with pytest.raises(ValueError, match="IoU matrix"):
            metric(broken)
