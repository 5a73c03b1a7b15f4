"""Boundary F against a slow version that looks at every pair of pixels, and on hand-made masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aopsam.masks import rle
from aopsam.metrics import Comparison, boundary_f
from aopsam.metrics.boundary import TOLERANCE, boundary_pixels, mask_boundary_f

HW = (60, 80)


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros(HW, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def slow_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    found = []
    for row, column in np.argwhere(mask).tolist():
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        if any(0 <= y < HW[0] and 0 <= x < HW[1] and not mask[y, x] for y, x in around):
            found.append((row, column))
    return found


def slow_f(predicted: np.ndarray, truth: np.ndarray) -> float:
    ours, theirs = slow_boundary(predicted), slow_boundary(truth)
    if not ours or not theirs:
        return float(not ours and not theirs)
    reach = TOLERANCE * math.hypot(*HW)
    near = [
        sum(min(math.dist(a, b) for b in there) <= reach for a in here) / len(here)
        for here, there in ((ours, theirs), (theirs, ours))
    ]
    return 2 * near[0] * near[1] / sum(near) if sum(near) else 0.0


def test_as_the_slow_version() -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        blobs = [
            square(*rng.integers(0, 40, 2), rng.integers(3, 30)) ^ square(*rng.integers(0, 40, 2), 9) for _ in range(2)
        ]
        blobs[1] |= blobs[0]
        encoded = [rle.encode(blob) for blob in blobs]
        assert sorted(map(tuple, boundary_pixels(encoded[0]).tolist())) == sorted(slow_boundary(blobs[0]))
        assert mask_boundary_f(*encoded) == pytest.approx(slow_f(*blobs))


def test_the_tolerance_is_a_share_of_the_diagonal() -> None:
    assert TOLERANCE * math.hypot(*HW) == 0.75  # so a pixel off is too far here
    truth = rle.encode(square(10, 10, 20))
    assert mask_boundary_f(truth, truth) == 1
    shifted = mask_boundary_f(rle.encode(square(10, 11, 20)), truth)
    assert 0 < shifted < 1  # above and below they still meet
    assert mask_boundary_f(rle.encode(square(12, 12, 16)), truth) == 0


def test_the_photos_own_edge_is_no_boundary() -> None:
    everything = rle.encode(np.ones(HW, bool))
    assert len(boundary_pixels(everything)) == 0
    assert mask_boundary_f(everything, everything) == 1
    assert mask_boundary_f(everything, rle.encode(square(10, 10, 20))) == 0


def test_each_ground_truth_counts_with_its_best_prediction() -> None:
    first, second, far = (rle.encode(square(*place, 15)) for place in ((2, 2), (30, 40), (2, 50)))
    rough = rle.encode(square(2, 2, 11))
    assert boundary_f(Comparison([rough, first], [first])) == 1
    assert boundary_f(Comparison([first], [first, second])) == 0.5
    assert boundary_f(Comparison([far], [first])) == 0


def test_nothing() -> None:
    some = rle.encode(square(2, 2, 15))
    assert boundary_f(Comparison([], [some])) == 0
    assert boundary_f(Comparison([some], [])) is None
    assert boundary_f(Comparison([], [])) is None
