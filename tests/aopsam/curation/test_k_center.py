from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from aopsam.curation.k_center import farthest_first, k_center, squared_distances


def _unit(rng: np.random.Generator, count: int, dimensions: int = 5) -> np.ndarray:
    vectors = rng.normal(size=(count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _nothing(count: int) -> np.ndarray:
    return np.full(count, np.inf, np.float32)


def _slow(vectors: np.ndarray, count: int, covered: np.ndarray) -> tuple[list[int], list[float]]:
    """Gonzalez as it is told: distances to all centres anew at each step."""
    chosen: list[int] = []
    distances: list[float] = []
    for _ in range(count):
        far = []
        for row, vector in enumerate(vectors):
            to_chosen = [float(((vector - vectors[other]) ** 2).sum()) for other in chosen]
            far.append(-1.0 if row in chosen else min([float(covered[row]), *to_chosen]))
        chosen.append(int(np.argmax(far)))
        distances.append(max(far))
    return chosen, distances


def _radius(vectors: np.ndarray, chosen: np.ndarray) -> float:
    return float(np.sqrt(squared_distances(vectors, vectors[chosen]).max()))


@pytest.mark.parametrize("seed", range(3))
def test_farthest_first_agrees_with_the_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = _unit(rng, 60)
    for covered in (_nothing(60), squared_distances(vectors, _unit(rng, 4))):
        chosen, distances = farthest_first(vectors, 25, covered)
        slow, slow_distances = _slow(vectors, 25, covered)
        assert chosen.tolist() == slow
        np.testing.assert_allclose(distances, slow_distances, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_against_the_best_choice(seed: int) -> None:
    vectors = _unit(np.random.default_rng(seed), 24, 3)
    best = min(_radius(vectors, np.array(three)) for three in combinations(range(24), 3))
    assert _radius(vectors, farthest_first(vectors, 3, _nothing(24))[0]) <= 2 * best + 1e-3
    assert _radius(vectors, k_center(vectors, 3, _nothing(24), block=8)[0]) <= 4 * best + 1e-3


def test_core_sets_cover_about_as_well_as_all_rows_at_once() -> None:
    rng = np.random.default_rng(0)
    vectors = _unit(rng, 4000, 16)
    at_once = _radius(vectors, farthest_first(vectors, 50, _nothing(4000))[0])
    by_blocks = _radius(vectors, k_center(vectors, 50, _nothing(4000), block=512)[0])
    assert at_once <= by_blocks <= 1.15 * at_once
    assert by_blocks < _radius(vectors, rng.choice(4000, 50, replace=False))


def test_core_sets_are_all_rows_where_each_block_gives_all() -> None:
    vectors = _unit(np.random.default_rng(1), 40)
    covered = squared_distances(vectors, vectors[:1])
    at_once, by_blocks = farthest_first(vectors, 20, covered), k_center(vectors, 20, covered, block=16)
    np.testing.assert_array_equal(at_once[0], by_blocks[0])
    np.testing.assert_allclose(at_once[1], by_blocks[1], atol=1e-6)


def test_copies_are_chosen_once_each() -> None:
    vectors = np.repeat(_unit(np.random.default_rng(2), 2), 5, axis=0)
    assert sorted(farthest_first(vectors, 10, _nothing(10))[0].tolist()) == list(range(10))


def test_distances_by_blocks_agree_with_all_pairs() -> None:
    rng = np.random.default_rng(3)
    vectors, centres = _unit(rng, 30), _unit(rng, 9)
    slow = ((vectors[:, None] - centres[None]) ** 2).sum(2).min(1)
    np.testing.assert_allclose(squared_distances(vectors, centres, block=4), slow, atol=1e-5)
    assert np.isinf(squared_distances(vectors, centres[:0])).all()
