"""Stability and small regions, on masks drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aopsam.masks import rle
from aopsam.masks.runs import Runs
from aopsam.masks.small_regions import clean, remove_small_regions
from aopsam.masks.stability import stability_score


def test_stability_is_the_ratio_of_the_two_areas() -> None:
    logits = torch.tensor([[[2.0, 0.5], [-0.5, -2.0]]])
    assert stability_score(logits, 0.0, 1.0).tolist() == pytest.approx([1 / 3])


def test_stability_of_a_mask_that_fills_a_very_wide_photo() -> None:
    assert stability_score(torch.ones(1, 2, 40_000) * 5, 0.0, 1.0).tolist() == [1.0]


def test_stability_of_an_empty_mask_is_kept_by_no_threshold() -> None:
    score = stability_score(torch.full((1, 3, 3), -9.0), 0.0, 1.0)
    assert not bool((score >= 0.01).any())


def _mask(text: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in line] for line in text.split()])


def test_small_holes_are_filled_and_small_islands_dropped() -> None:
    mask = _mask("#####... #.###..# #####... ........ ........")
    cleaned, changed = remove_small_regions(mask, 3)
    assert changed
    assert (cleaned == _mask("#####... #####... #####... ........ ........")).all()


def test_diagonal_neighbours_are_one_region() -> None:
    mask = _mask("#... .#.. ..#. ....")
    cleaned, changed = remove_small_regions(mask, 3)
    assert not changed
    assert (cleaned == mask).all()


def test_the_largest_of_only_small_islands_stays() -> None:
    cleaned, changed = remove_small_regions(_mask("##..# ..... ....."), 3)
    assert changed
    assert (cleaned == _mask("##... ..... .....")).all()


def test_an_empty_mask_stays_empty() -> None:
    cleaned, changed = remove_small_regions(np.zeros((4, 4), bool), 3)
    assert not changed
    assert not cleaned.any()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("least", [1, 6, 40, 400])
def test_cleaning_runs_equals_cleaning_the_whole_frame(seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((60, 80), bool)
    top, left = rng.integers(0, 40, 2)
    part = mask[top : top + 25, left : left + 30]
    part[:] = rng.random(part.shape) < rng.uniform(0.2, 0.9)
    expected, changed = remove_small_regions(mask, least)
    cleaned, said = clean(Runs.of_mask(mask), least)
    assert said == changed
    np.testing.assert_array_equal(rle.decode(rle.from_runs(cleaned)), expected)
