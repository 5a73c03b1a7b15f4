from __future__ import annotations

import numpy as np
import pytest

from aopsam.masks import rle
from aopsam.report.overlay import overlay

GREY = np.full((60, 80, 3), 100, np.uint8)


def box(height: int, width: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_only_masks_and_prompts_change_the_photo() -> None:
    mask = box(60, 80, 10, 20, 30, 50)
    drawn = overlay(GREY, [{"segmentation": rle.encode(mask), "point_coords": [[35.0, 20.0]]}])
    assert (drawn.shape, drawn.dtype) == (GREY.shape, np.uint8)
    assert (GREY == 100).all()  # the photo itself is left as it was
    np.testing.assert_array_equal((drawn != 100).any(2), mask)
    assert drawn[20, 35].tolist() == [255, 255, 255]
    fill, edge = drawn[12, 22].astype(int), drawn[10, 20].astype(int)
    assert np.abs(edge - 100).sum() > 1.5 * np.abs(fill - 100).sum() > 0


def test_a_small_mask_stays_visible_on_a_large_one() -> None:
    large, small = box(60, 80, 0, 0, 60, 80), box(60, 80, 20, 20, 30, 30)
    records = [{"segmentation": mask} for mask in (small, large)]
    drawn = overlay(GREY, records)
    assert (drawn[25, 25] != drawn[50, 70]).any()
    np.testing.assert_array_equal(drawn, overlay(GREY, records[::-1]))


def test_a_pixel_has_the_colour_of_the_smallest_mask_alone() -> None:
    masks = [{"segmentation": box(60, 80, 0, 0, 60, 80)}, {"segmentation": box(60, 80, 20, 20, 40, 40)}]
    red, blue = (255.0, 0.0, 0.0), (0.0, 0.0, 255.0)
    drawn = overlay(GREY, masks, [red, blue])
    np.testing.assert_array_equal(drawn[22:38, 22:38], overlay(GREY, masks[1:], [blue])[22:38, 22:38])
    assert drawn[20, 20].tolist() == [0, 0, 255]
    assert drawn[50, 70, 0] > 100 > drawn[50, 70, 2]


def test_a_thumbnail_takes_masks_and_prompts_of_the_full_photo() -> None:
    mask = box(600, 800, 100, 200, 300, 500)
    record = {"segmentation": rle.encode(mask), "point_coords": None, "box": [200.0, 100.0, 500.0, 300.0]}
    drawn = overlay(GREY, [record])
    np.testing.assert_array_equal((drawn != 100).any(2), box(60, 80, 10, 20, 30, 50))
    assert drawn[20, 35].tolist() == [255, 255, 255]  # the centre of the box


def test_masks_as_rles_are_drawn_as_their_bitmaps_are() -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        height, width, *size = draw.integers(1, 40, 4)
        masks = [np.zeros((height, width), bool) for _ in range(4)]
        for mask in masks:
            top, left = draw.integers(0, height), draw.integers(0, width)
            mask[top : top + 20, left : left + 20] = (
                draw.random((height, width))[top : top + 20, left : left + 20] < 0.8
            )
        photo = draw.integers(0, 255, (*size, 3)).astype(np.uint8)
        drawn = overlay(photo, [{"segmentation": rle.encode(mask)} for mask in masks])
        np.testing.assert_array_equal(drawn, overlay(photo, [{"segmentation": mask} for mask in masks]))


def test_prompts_at_the_edge_and_beyond_do_no_harm() -> None:
    mask = box(60, 80, 0, 0, 60, 80)
    for point in ([0.0, 0.0], [80.0, 60.0], [-50.0, 500.0]):
        overlay(GREY, [{"segmentation": mask, "point_coords": [point]}])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="uint8"):
        overlay(GREY.astype(np.float32), [])
    with pytest.raises(ValueError, match="RLE"):
        overlay(GREY, [{"segmentation": {"size": [60, 80], "counts": "1"}}])
