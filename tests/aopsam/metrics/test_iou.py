"""IoU matrices against a slow reference in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from aopsam.metrics import iou_matrix


def random_masks(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 23, 31), dtype=bool)
    for mask in masks:
        (top, left), (height, width) = rng.integers(0, 20, 2), rng.integers(1, 20, 2)
        mask[top : top + height, left : left + width] = (
            rng.random(mask[top : top + height, left : left + width].shape) < 0.8
        )
    return masks


def slow_iou(predicted: np.ndarray, ground_truth: np.ndarray) -> np.ndarray:
    result = np.zeros((len(predicted), len(ground_truth)))
    for i, ours in enumerate(predicted):
        for j, theirs in enumerate(ground_truth):
            union = (ours | theirs).sum()
            result[i, j] = (ours & theirs).sum() / union if union else 0.0
    return result


def as_rles(masks: np.ndarray) -> list[dict]:
    rles = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in rles]


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_slow_reference_for_stacks_and_rles(seed: int) -> None:
    predicted, ground_truth = random_masks(7, seed), random_masks(4, seed + 100)
    expected = slow_iou(predicted, ground_truth)
    np.testing.assert_allclose(iou_matrix(predicted, ground_truth), expected, atol=1e-12)
    np.testing.assert_allclose(iou_matrix(as_rles(predicted), as_rles(ground_truth)), expected, atol=1e-12)
    np.testing.assert_allclose(iou_matrix(as_rles(predicted), ground_truth), expected, atol=1e-12)


def test_empty_masks_have_iou_zero_even_with_each_other() -> None:
    empty, full = np.zeros((1, 4, 4), dtype=bool), np.ones((1, 4, 4), dtype=bool)
    assert iou_matrix(np.concatenate([empty, full]), np.concatenate([empty, full])).tolist() == [[0, 0], [0, 1]]


def test_an_empty_side_gives_an_empty_matrix() -> None:
    some, none = random_masks(3, 0), np.zeros((0, 23, 31), dtype=bool)
    assert iou_matrix(none, some).shape == (0, 3)
    assert iou_matrix([], some).shape == (0, 3)
    assert iou_matrix(some, []).shape == (3, 0)
    assert iou_matrix([], []).shape == (0, 0)


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different sizes.*\[4, 4\], \[4, 5\]"):
        iou_matrix(np.ones((1, 4, 4), dtype=bool), np.ones((1, 4, 5), dtype=bool))


def test_a_stack_that_is_not_bool_is_refused() -> None:
    with pytest.raises(ValueError, match="of bool, got"):
        iou_matrix(np.ones((1, 4, 4)), np.ones((1, 4, 4), dtype=bool))
