"""Targets of photos: peaks, where they are valid, objects."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from aopsam.predictor.frame import content_hw
from stages.prompt_maps.target import MARGIN, PhotoTarget, photo_target
from tests.helpers.made_shard import annotation, rectangle


def _square(left: int, top: int, side: int, image: int = 256) -> dict:
    return annotation(rectangle((image, image), top, left, side, side), (left + 1, top + 1))


def _peak_xy(target: np.ndarray) -> tuple[int, int]:
    y, x = np.unravel_index(target.argmax(), target.shape)
    return int(x), int(y)


def _peaks_xy(target: np.ndarray) -> set[tuple[int, int]]:
    return {(int(x), int(y)) for y, x in np.argwhere(target == 1)}


def _target(annotations: list[dict], image_hw: tuple[int, int], **arguments: Any) -> PhotoTarget:
    return photo_target(annotations, image_hw, pytest.fail, **arguments)


def test_recorded_points_are_taken_where_there_are_some_and_interior_ones_always_on_request() -> None:
    recorded = _square(100, 40, 21)
    bare = annotation(rectangle((256, 256), 150, 30, 21, 21))
    both = _target([recorded, bare], (256, 256))
    assert both.source == "recorded"
    assert _peaks_xy(both.map) == {(101, 41), (40, 160)}
    for nothing in ({}, {"point_coords": []}, {"point_coords": None}):  # the last two as in labels by boxes
        target = _target([bare | nothing], (256, 256))
        assert target.source == "interior"
        assert _peak_xy(target.map) == (40, 160)
    forced = _target([recorded], (256, 256), source="interior")
    assert forced.source == "interior"
    assert _peak_xy(forced.map) == (110, 50)


@pytest.mark.parametrize("hw", [(100, 200), (200, 100)])
def test_a_stretched_frame_shows_the_photo_all_over(hw: tuple[int, int]) -> None:
    mask = rectangle(hw, hw[0] // 4, hw[1] // 4, 40, 40)
    target = _target([annotation(mask, (hw[1] * 0.75, hw[0] * 0.5))], hw, stretched=True)
    assert target.content_hw == (256, 256)
    assert target.valid.all()
    assert _peak_xy(target.map) == (192, 128)
    assert _peak_xy(target.mirrored().map) == (63, 128)
    x, y = 40 * 256 / hw[1], 40 * 256 / hw[0]
    np.testing.assert_allclose(target.objects.boxes_xyxy_px, [[64, 64, 64 + x, 64 + y]], rtol=1e-6)
    assert target.objects.masks.sum() == pytest.approx(x * y, rel=0.02)
    np.testing.assert_allclose(target.mirrored().objects.boxes_xyxy_px, [[192 - x, 64, 192, 64 + y]], rtol=1e-6)


def test_repeats_are_as_near_as_the_stretched_frame_shows_them() -> None:
    masks = [annotation(rectangle((100, 400), 40, 100, 20, 20), point) for point in ((110, 50), (114, 50), (114, 52))]
    assert len(_peaks_xy(_target(masks[:2], (100, 400), stretched=True).map)) == 1  # 2.6 px
    assert len(_peaks_xy(_target([masks[0], masks[2]], (100, 400), stretched=True, preset="sharp").map)) == 2  # 5.7 px


def test_exhaustive_annotation_is_valid_all_over_the_photo_and_not_in_the_padding() -> None:
    valid = _target([annotation(rectangle((100, 200), 40, 100, 21, 21))], (100, 200)).valid
    rows, columns = content_hw((100, 200))
    assert valid[:rows, :columns].all()
    assert not valid[rows:].any()


def test_sparse_annotation_is_valid_near_its_masks_alone() -> None:
    valid = _target([_square(100, 100, 20)], (256, 256), sparse=True).valid
    assert valid[110, 110] == 1
    assert valid[110, 100 - MARGIN] == 1
    assert valid[110, 100 - MARGIN - 1] == 0


def test_several_annotators_of_one_thing_give_one_peak() -> None:
    twice = [_square(100, 40, 21), _square(101, 41, 22)]
    np.testing.assert_array_equal(_target(twice, (256, 256)).map, _target(twice[:1], (256, 256)).map)


def test_a_weight_is_the_height_of_its_peak() -> None:
    weak = _square(40, 100, 21) | {"weight": 0.25}
    target = _target([_square(150, 100, 21), weak], (256, 256), source="interior").map
    assert target[110, 160] == 1
    assert target[110, 50] == 0.25


def test_objects_lie_where_the_frame_shows_them_and_repeats_once() -> None:
    masks = [rectangle((100, 200), 40, 100, 21, 20), rectangle((100, 200), 40, 100, 21, 21)]
    whole = rectangle((100, 200), 0, 0, 100, 200)
    objects = _target([annotation(mask) for mask in (*masks, whole)], (100, 200)).objects
    scale = 256 / 200
    expected = [[100, 40, 120, 61], [0, 0, 200, 100]]
    np.testing.assert_allclose(objects.boxes_xyxy_px, np.array(expected) * scale, rtol=1e-6)
    assert objects.masks[1].sum() == 128 * 256
    ys, xs = objects.masks[0].nonzero()
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (128, 51, 154, 78)


def test_an_object_between_the_pixels_of_the_frame_keeps_one() -> None:
    objects = _target([annotation(rectangle((1024, 1024), 512, 512, 1, 1))], (1024, 1024)).objects
    assert np.argwhere(objects.masks[0]).tolist() == [[128, 128]]


@pytest.mark.parametrize(
    ("broken", "arguments", "line"),
    [
        (_square(1, 1, 2, image=9), {}, r"annotation 1: ValueError: mask of \(9, 9\)"),
        ({"segmentation": {"size": [256, 256], "counts": "!"}}, {}, "annotation 1: ValueError: RLE counts"),
        ({"area": 3}, {}, "annotation 1: KeyError: 'segmentation'"),
        (_square(1, 1, 2) | {"point_coords": [3, 3]}, {}, "annotation 1: TypeError"),
        (_square(1, 1, 2) | {"point_coords": [[256, 3]]}, {}, "annotation 1: .* outside the photo"),
        (_square(1, 1, 2) | {"weight": float("nan")}, {}, "annotation 1: .* weight nan"),
    ],
)
def test_a_broken_annotation_is_named_and_costs_itself(broken: dict, arguments: dict, line: str) -> None:
    problems: list[str] = []
    target = photo_target([_square(100, 40, 21), broken], (256, 256), problems.append, **arguments)
    np.testing.assert_array_equal(target.map, _target([_square(100, 40, 21)], (256, 256), **arguments).map)
    (problem,) = problems
    assert re.match(line, problem)


def test_no_mask_and_an_unknown_kernel_are_errors() -> None:
    with pytest.raises(ValueError, match="no annotated mask"):
        _target([], (256, 256))
    with pytest.raises(ValueError, match="unknown preset 'huge'; the names are sharp"):
        _target([_square(1, 1, 2)], (256, 256), preset="huge")
