from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from aopsam.masks.outline import joined, outlines
from tests.helpers.made_labels import disc


def filled(points: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: a closed line through the middles of pixels, filled by the even-odd rule, with its edge."""
    image = Image.new("1", hw[::-1])
    xy = [tuple(point) for point in points.tolist()]
    if len(xy) > 2:
        ImageDraw.Draw(image).polygon(xy, fill=1, outline=1)
    ImageDraw.Draw(image).line([*xy, xy[0]], fill=1)
    return np.asarray(image)


def picture(*lines: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in lines])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def noise(seed: int, smooth: int) -> np.ndarray:
    values = np.random.default_rng(seed).random((60, 80))
    for _ in range(smooth):
        values = sum(np.roll(values, step, axis) for step in (-1, 0, 1) for axis in (0, 1)) / 6
    return values > np.median(values)


@pytest.mark.parametrize(
    ("mask", "areas"),
    [
        (picture("#"), [1]),
        (picture("###"), [3]),
        (picture("#.", ".#"), [2]),
        (picture(".#", "#."), [2]),
        (picture("###", "#.#", "###"), [9, -1]),
        (picture("####", "#.##", "##.#", "####"), [16, -1, -1]),
        (picture("#.#", "...", "#.#"), [1, 1, 1, 1]),
        (picture("...", "..."), []),
        (np.ones((5, 7), bool), [35]),
    ],
)
def test_parts_touch_at_corners_and_holes_along_sides(mask: np.ndarray, areas: list[int]) -> None:
    found = outlines(mask)
    assert sorted(line.area for line in found) == sorted(areas)
    assert sum(line.area for line in found) == mask.sum()


@pytest.mark.parametrize("smooth", [0, 3])
def test_areas_add_up_to_the_mask_and_points_lie_in_it(smooth: int) -> None:
    mask = noise(0, smooth)
    found = outlines(mask)
    assert sum(line.area for line in found) == mask.sum()
    for line in found:
        x, y = line.points_xy.T
        assert mask[y, x].all()


def test_a_closed_line_reaches_all_sides_of_the_photo() -> None:
    mask = np.ones((5, 7), bool)
    assert sorted(joined(outlines(mask)).points_xy.tolist()) == [[0, 0], [0, 4], [6, 0], [6, 4]]


def test_holes_and_parts_are_joined_by_cuts() -> None:
    mask = disc(90, 120, 60, 45, 40) & ~disc(90, 120, 45, 40, 9) & ~disc(90, 120, 75, 50, 12)
    assert iou(filled(joined(outlines(mask)).points_xy, mask.shape), mask) > 0.999
    two = mask | disc(90, 120, 110, 20, 9)
    line, least_iou = joined(outlines(two))
    whole = filled(line, two.shape)
    assert iou(whole, two) > 0.995
    assert iou(whole, two) == pytest.approx(least_iou)
    assert 0 < (whole & ~two).sum() < 12  # the cut between the parts


def test_a_part_smaller_than_its_cut_is_left_out() -> None:
    mask = disc(60, 200, 30, 30, 20)
    speck = mask.copy()
    speck[30, 190:193] = True
    assert np.array_equal(filled(joined(outlines(speck)).points_xy, mask.shape), mask)


def test_a_part_that_is_left_out_takes_its_holes_along() -> None:
    mask = disc(60, 300, 30, 30, 20)
    ring = mask | (disc(60, 300, 280, 30, 6) & ~disc(60, 300, 280, 30, 4))
    line, least_iou = joined(outlines(ring))
    assert np.array_equal(filled(line, mask.shape), mask)
    assert least_iou == pytest.approx(mask.sum() / ring.sum())


def test_a_ring_counts_the_pixels_that_it_has() -> None:
    mask = disc(90, 500, 30, 45, 20)
    ring = disc(90, 500, 400, 45, 40) & ~disc(90, 500, 400, 45, 39)  # encloses more than the disc, and has fewer
    line, least_iou = joined(outlines(mask | ring))
    assert np.array_equal(filled(line, mask.shape), mask)
    assert least_iou == pytest.approx(mask.sum() / (mask.sum() + ring.sum()))


def test_any_mask_makes_one_closed_line() -> None:
    for seed in range(5):
        mask = noise(seed, seed)
        lines = outlines(mask)
        line, least_iou = joined(lines)
        assert iou(filled(line, mask.shape), mask) >= least_iou
        assert len(np.unique(line, axis=0)) > 3
        if seed > 2:
            assert iou(filled(line, mask.shape), mask) > 0.95
