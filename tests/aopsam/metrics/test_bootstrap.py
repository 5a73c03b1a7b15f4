"""Weighted means, bootstrap intervals, paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from aopsam.metrics import mean_interval, paired_difference, weighted_mean

NAN = float("nan")


def test_weights_turn_the_mean_over_photos_into_the_mean_over_masks() -> None:
    assert mean_interval([1.0, 0.0]).mean == 0.5
    assert mean_interval([1.0, 0.0], [3, 1]).mean == 0.75
    assert weighted_mean([1.0, 0.0], [3, 1]) == 0.75


def test_undefined_photos_are_left_out_whatever_their_weight() -> None:
    assert mean_interval([0.2, NAN, 0.4]).mean == pytest.approx(0.3)
    assert mean_interval([0.2, NAN, 0.4], [1, NAN, 3]).mean == pytest.approx(0.35)


@pytest.mark.parametrize("values", [[], [NAN], [NAN, NAN]])
def test_nothing_defined_has_no_mean(values: list[float]) -> None:
    assert mean_interval(values) is None
    assert weighted_mean(values) is None
    assert paired_difference(values, values) is None


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        estimate = mean_interval(rng.normal(0.5, 0.2, 60), resamples=400)
        covered += estimate.low <= 0.5 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).random(30)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)


def test_pairing_removes_the_spread_between_photos() -> None:
    rng = np.random.default_rng(2)
    photos = rng.random(50)
    difference = paired_difference(photos + 0.05, photos)
    assert difference.mean == pytest.approx(0.05)
    assert difference.high - difference.low < 1e-9
    alone = mean_interval(photos)
    assert alone.high - alone.low > 0.05


def test_a_method_differs_from_itself_by_nothing() -> None:
    values, weights = np.random.default_rng(3).random((2, 20))
    estimate = paired_difference(values, values, weights, weights)
    assert (estimate.mean, estimate.low, estimate.high) == (0, 0, 0)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="one weight a photo"):
        mean_interval([0.1, 0.2], [1.0])
    with pytest.raises(ValueError, match="at least 0"):
        mean_interval([0.1], [-1.0])
    with pytest.raises(ValueError, match="at least 0"):
        mean_interval([0.1], [NAN])
    with pytest.raises(ValueError, match="same photos"):
        paired_difference([0.1], [0.1, 0.2])
