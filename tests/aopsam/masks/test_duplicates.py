"""Ways with duplicates against plain versions of them, on bitmaps."""

from __future__ import annotations

import numpy as np
import pytest

from aopsam.masks import rle
from aopsam.masks.duplicates import DUPLICATES
from aopsam.masks.runs import Runs
from tests.helpers.made_masks import blobs

SCORES = np.array([0.3, 0.9, 0.5, 0.9, 0.7, 0.1], np.float32)


def plain_mask_nms(stack: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(stack)), key=lambda i: (-scores[i], i)):
        overlaps = [(stack[i] & stack[j]).sum() / (stack[i] | stack[j]).sum() for j in kept]
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(i)
    return kept


def plain_merge(stack: np.ndarray, threshold: float) -> list[np.ndarray]:
    """Groups grown pair by pair until nothing changes; their unions."""
    groups = [{i} for i in range(len(stack))]
    for i in range(len(stack)):
        for j in range(i):
            if (stack[i] & stack[j]).sum() / min(stack[i].sum(), stack[j].sum()) > threshold:
                one, other = (next(group for group in groups if k in group) for k in (i, j))
                if one is not other:
                    groups.remove(other)
                    one |= other
    return [stack[sorted(group)].any(axis=0) for group in groups]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_mask_nms_equals_the_plain_version(seed: int, threshold: float) -> None:
    stack = blobs(25, seed)
    scores = np.random.default_rng(seed).integers(0, 5, 25).astype(np.float32)  # with ties
    masks = [Runs.of_mask(mask) for mask in stack]
    kept = DUPLICATES["mask-nms"](masks, scores, threshold)
    assert [i for i, _ in kept] == plain_mask_nms(stack, scores, threshold)
    assert all(mask is masks[i] for i, mask in kept)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.95])
def test_merge_equals_the_plain_version(seed: int, threshold: float) -> None:
    stack = blobs(25, seed)
    scores = np.random.default_rng(seed).random(25).astype(np.float32)
    kept = DUPLICATES["merge"]([Runs.of_mask(mask) for mask in stack], scores, threshold)
    made = {rle.decode(rle.from_runs(mask)).tobytes() for _, mask in kept}
    assert made == {mask.tobytes() for mask in plain_merge(stack, threshold)}
    assert [i for i, _ in kept] == sorted((i for i, _ in kept), key=lambda i: -scores[i])
    for best, mask in kept:  # the record kept is the best of those that lie in the union
        inside = [i for i in range(25) if not (stack[i] & ~rle.decode(rle.from_runs(mask))).any()]
        assert scores[best] == max(scores[i] for i in inside if i == best or scores[i] <= scores[best])


def _rectangles(*boxes: tuple[int, int, int, int]) -> list[Runs]:
    masks = []
    for x0, y0, x1, y1 in boxes:
        mask = np.zeros((20, 20), bool)
        mask[y0:y1, x0:x1] = True
        masks.append(Runs.of_mask(mask))
    return masks


def test_a_frame_and_what_it_surrounds_are_one_box_and_two_masks() -> None:
    frame = np.ones((20, 20), bool)
    frame[1:-1, 1:-1] = False
    masks = [Runs.of_mask(frame), Runs.of_mask(~frame)]
    scores = np.array([0.9, 0.8], np.float32)
    assert [len(DUPLICATES[way](masks, scores, 0.7)) for way in ("box-nms", "mask-nms")] == [1, 2]


def test_merge_joins_a_part_with_its_whole_and_keeps_the_best_ones_place() -> None:
    masks = _rectangles((0, 0, 10, 10), (2, 2, 5, 5), (12, 0, 20, 6))
    kept = DUPLICATES["merge"](masks, np.array([0.2, 0.8, 0.5], np.float32), 0.7)
    assert [(i, mask.area) for i, mask in kept] == [(1, 100), (2, 48)]


def test_a_mask_that_nothing_joins_stays_the_same_object() -> None:
    apart = [Runs.of_mask(mask) for mask in np.eye(2, dtype=bool)[:, None, :].repeat(4, axis=1)]
    for way in DUPLICATES:
        kept = DUPLICATES[way](apart, np.array([0.9, 0.8], np.float32), 0.7)
        assert [runs is apart[i] for i, runs in kept] == [True, True], way


def test_none_keeps_all_by_falling_score() -> None:
    masks = _rectangles(*[(0, 0, 5, 5)] * 6)
    assert [i for i, _ in DUPLICATES["none"](masks, SCORES, 0.5)] == [1, 3, 4, 2, 0, 5]


@pytest.mark.parametrize("way", DUPLICATES)
def test_nothing_in_nothing_out(way: str) -> None:
    assert DUPLICATES[way]([], np.zeros(0, np.float32), 0.5) == []


def test_equal_masks_one_pixel_wide_stay_once() -> None:
    line = np.zeros((6, 5), bool)
    line[1:4, 2] = True
    shorter = line.copy()
    shorter[3, 2] = False
    masks = [Runs.of_mask(mask) for mask in (line, shorter, line)]
    kept = DUPLICATES["box-nms"](masks, np.array([0.3, 0.6, 0.9], np.float32), 0.7)
    assert [i for i, _ in kept] == [2, 1]
    one = Runs.of_mask(np.ones((1, 1), bool))
    assert [i for i, _ in DUPLICATES["box-nms"]([one] * 4, np.array([1, 2, 4, 3], np.float32), 0.7)] == [2]
