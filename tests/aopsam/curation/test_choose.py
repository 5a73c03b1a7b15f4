from __future__ import annotations

import numpy as np
import pytest

from aopsam.curation.choose import choose
from aopsam.curation.k_center import squared_distances
from aopsam.curation.strata import strata, water_fill


def _unit(rng: np.random.Generator, count: int, dimensions: int = 8) -> np.ndarray:
    vectors = rng.normal(size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def _one_by_one(sizes: list[int], total: int) -> list[int]:
    """A photo at a time to the stratum that has least and still has some; the largest, then the first of equals."""
    quotas = [0] * len(sizes)
    for _ in range(total):
        open_ones = [place for place, size in enumerate(sizes) if quotas[place] < size]
        quotas[min(open_ones, key=lambda place: (quotas[place], -sizes[place], place))] += 1
    return quotas


@pytest.mark.parametrize("seed", range(5))
def test_water_filling_agrees_with_one_photo_at_a_time(seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(0, 12, 7).tolist()
    for total in range(sum(sizes) + 1):
        assert water_fill(sizes, total).tolist() == _one_by_one(sizes, total)


def test_more_photos_than_there_are_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match="6 photos cannot come of strata that hold 5"):
        water_fill([2, 3], 6)


def test_bins_hold_a_third_each_and_keep_equals_together() -> None:
    bins = strata([np.arange(9), [4.0] * 9])
    assert bins[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(bins[:, 1].tolist())) == 1


def test_strata_give_evenly_and_small_ones_all_they_have() -> None:
    bins = np.array([[0]] * 80 + [[1]] * 3 + [[2]] * 30)
    choice = choose(_unit(np.random.default_rng(0), 113), bins, 33, seed=0)
    chosen = choice.order >= 0
    assert [int(chosen[bins[:, 0] == number].sum()) for number in range(3)] == [15, 3, 15]
    assert sorted(choice.order[chosen].tolist()) == list(range(33))


def test_distances_are_to_what_was_chosen_before() -> None:
    rng = np.random.default_rng(1)
    vectors, bins = _unit(rng, 60), rng.integers(0, 2, (60, 2))
    choice = choose(vectors, bins, 20, seed=3)
    by_order = np.flatnonzero(choice.order >= 0)[np.argsort(choice.order[choice.order >= 0])]
    assert np.isinf(choice.distance[by_order[0]])
    for place in range(1, 20):
        row = by_order[place]
        expected = np.sqrt(squared_distances(vectors[row : row + 1], vectors[by_order[:place]]))
        np.testing.assert_allclose(choice.distance[row], expected[0], atol=2e-3)
    others = choice.order < 0
    np.testing.assert_allclose(
        choice.distance[others], np.sqrt(squared_distances(vectors[others], vectors[by_order])), atol=2e-3
    )


def test_a_seed_decides_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    vectors, bins = _unit(rng, 90), rng.integers(0, 3, (90, 1))
    np.testing.assert_array_equal(choose(vectors, bins, 30, 5).order, choose(vectors, bins, 30, 5).order)
    assert (choose(vectors, bins, 30, 5).order != choose(vectors, bins, 30, 6).order).any()


def test_rare_looks_are_covered() -> None:
    rng = np.random.default_rng(3)
    kinds = _unit(rng, 10, 32).astype(np.float32)
    of_kind = np.repeat(np.arange(10), [500, *[3] * 9])
    vectors = kinds[of_kind] + rng.normal(0, 0.02, (len(of_kind), 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    choice = choose(vectors, np.zeros((len(vectors), 1), np.int64), 20, seed=0)
    assert set(of_kind[choice.order >= 0].tolist()) == set(range(10))


def test_all_may_be_chosen() -> None:
    choice = choose(_unit(np.random.default_rng(4), 12), np.zeros((12, 1), np.int64), 12, seed=0)
    assert sorted(choice.order.tolist()) == list(range(12))
