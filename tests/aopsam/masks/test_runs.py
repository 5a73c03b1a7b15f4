"""What is done on runs against the same on bitmaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from aopsam.masks import rle
from aopsam.masks.overlap import intersections, iou
from aopsam.masks.runs import Runs, union


def bitmap(mask: Runs) -> np.ndarray:
    return rle.decode(rle.from_runs(mask))


def made_stacks() -> Iterator[np.ndarray]:
    """Stacks (N, H, W) of noise of every density, of odd sizes, each with an empty and a full mask."""
    rng = np.random.default_rng(0)
    for height, width in [(1, 1), (1, 30), (30, 1), (7, 9), (40, 33)]:
        density = rng.random((6, 1, 1))
        noise = rng.random((6, height, width)) < density
        yield np.concatenate([noise, np.zeros((1, height, width), bool), np.ones((1, height, width), bool)])


STACKS = list(made_stacks())


def same(one: Runs, other: Runs) -> bool:
    return (
        one.hw == other.hw
        and one.box_xyxy_px == other.box_xyxy_px
        and np.array_equal(one.starts, other.starts)
        and np.array_equal(one.stops, other.stops)
    )


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: str(stack.shape))
def test_union_is_that_of_the_bitmaps(stack: np.ndarray) -> None:
    masks = [Runs.of_mask(mask) for mask in stack]
    for chosen in ([0], [0, 1], [2, 3, 4], [6, 6], [6, 1, 7], range(8)):
        assert same(union([masks[i] for i in chosen]), Runs.of_mask(stack[list(chosen)].any(axis=0)))


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: str(stack.shape))
def test_what_lies_in_a_rectangle_is_that_of_the_bitmap(stack: np.ndarray) -> None:
    height, width = stack.shape[1:]
    rng = np.random.default_rng(1)
    for mask in stack:
        (left, right), (top, bottom) = (sorted(rng.choice(side + 1, 2, replace=False)) for side in (width, height))
        assert same(Runs.of_mask(mask).within(left, top, right, bottom), Runs.of_mask(mask[top:bottom, left:right]))


def test_flat_runs_that_touch_become_one() -> None:
    made = Runs.of_flat(np.array([2, 5, 9]), np.array([5, 6, 11]), (4, 3))  # one of them goes on into the next column
    mask = np.zeros(12, bool)
    mask[[2, 3, 4, 5, 9, 10]] = True
    assert same(made, Runs.of_mask(mask.reshape(3, 4).T))


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: str(stack.shape))
def test_intersections_are_those_of_the_bitmaps(stack: np.ndarray) -> None:
    masks = [Runs.of_mask(mask) for mask in stack]
    shared = np.array([[(one & other).sum() for other in stack] for one in stack])
    either = np.array([[(one | other).sum() for other in stack] for one in stack])
    assert (intersections(masks, masks) == shared).all()
    assert (intersections(masks[:2], masks[3:]) == shared[:2, 3:]).all()
    assert iou(masks) == pytest.approx(shared / np.maximum(either, 1))
    assert intersections([], masks).shape == (0, 8)
    assert intersections(masks, []).shape == (8, 0)
