"""Parents and flat masks against plain versions of them, on bitmaps."""

from __future__ import annotations

import numpy as np
import pytest

from aopsam.masks import rle
from aopsam.masks.nesting import flattened, parents, wholes
from aopsam.masks.runs import Runs
from tests.helpers.made_masks import blobs


def plain_parents(stack: np.ndarray) -> list[int | None]:
    found: list[int | None] = []
    for mask in stack:
        holds = [
            (other.sum(), i)
            for i, other in enumerate(stack)
            if other.sum() > mask.sum() and (mask & other).sum() >= 0.9 * mask.sum()
        ]
        found.append(min(holds)[1] if holds else None)
    return found


def plain_flat(stack: np.ndarray) -> np.ndarray:
    owner = np.full(stack.shape[1:], -1)
    for i in sorted(range(len(stack)), key=lambda i: (-stack[i].sum(), -i)):
        owner[stack[i]] = i
    return np.stack([owner == i for i in range(len(stack))])


@pytest.mark.parametrize("seed", range(8))
def test_parents_equal_the_plain_version(seed: int) -> None:
    stack = blobs(25, seed)
    assert parents([Runs.of_mask(mask) for mask in stack]) == plain_parents(stack)


def test_the_parent_is_the_smallest_that_holds_it_and_equals_have_none() -> None:
    y, x = np.mgrid[:40, :40]
    discs = [np.hypot(y - 20, x - 20) < radius for radius in (18, 5, 10, 10)]
    assert parents([Runs.of_mask(disc) for disc in discs]) == [None, 2, 0, 0]


@pytest.mark.parametrize("seed", range(8))
def test_wholes_equal_the_plain_version(seed: int) -> None:
    stack, scores = blobs(25, seed), np.random.default_rng(seed).uniform(0.2, 1, 25)
    kept = [
        i
        for i, mask in enumerate(stack)
        if not any(
            other.sum() > mask.sum() and (mask & other).sum() >= 0.9 * mask.sum() and score >= 0.85 * scores[i]
            for other, score in zip(stack, scores, strict=True)
        )
    ]
    assert wholes([Runs.of_mask(mask) for mask in stack], scores) == kept
    assert 0 < len(kept) < 25


def test_a_whole_replaces_its_parts_unless_it_is_worse_than_they_are() -> None:
    y, x = np.mgrid[:40, :40]
    discs = [Runs.of_mask(np.hypot(y - 20, x - 20) < radius) for radius in (18, 10, 5)]
    assert wholes(discs, np.array([0.86, 1.0, 0.5])) == [0]
    assert wholes(discs, np.array([0.84, 1.0, 0.5])) == [0, 1]
    assert wholes(discs, np.array([0.1, 0.2, 0.9])) == [0, 1, 2]
    assert wholes([], np.array([])) == []


@pytest.mark.parametrize("seed", range(8))
def test_flat_masks_equal_the_plain_version(seed: int) -> None:
    stack = blobs(25, seed)
    stack[7] = stack[3]  # of equals the first keeps the pixels
    made = [rle.decode(rle.from_runs(mask)) for mask in flattened([Runs.of_mask(mask) for mask in stack])]
    np.testing.assert_array_equal(np.stack(made), plain_flat(stack))
    assert np.stack(made).sum(axis=0).max() == 1
    assert (np.stack(made).any(axis=0) == stack.any(axis=0)).all()
    assert not made[7].any()


def test_an_empty_mask_has_no_parent() -> None:
    assert parents([Runs.of_mask(np.zeros((4, 4), bool)), Runs.of_mask(np.ones((4, 4), bool))]) == [None, None]


def test_no_masks() -> None:
    assert parents([]) == flattened([]) == []
