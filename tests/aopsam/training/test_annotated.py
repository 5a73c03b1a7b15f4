"""Photos and masks: where they are kept, what a shard may leave out, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from torch.utils.data import DataLoader

from aopsam.photos.sa1b import read_shard
from aopsam.predictor.interior import interior_point
from aopsam.training.annotated import Annotated, StoredPhotos, annotated, load_photos
from tests.helpers.made_shard import annotation, jpeg, rectangle, two_objects, write_shard

HW = (96, 128)


def test_interior_point_where_none_is_given(tmp_path: Path) -> None:
    square = annotation(rectangle(HW, 10, 20, 21, 21))
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), [square]), "bare": (jpeg(1, HW), [])})
    (photo,) = load_photos([shard])
    assert photo.rgb.shape == (96, 128, 3)
    assert photo.points_px.tolist() == [[30.0, 20.0]]
    assert photo.areas_px.tolist() == [441.0]


@pytest.mark.parametrize(
    ("annotations", "line"),
    [
        ([{"area": 3}], "a: annotation 0"),
        ([two_objects()[0], annotation(rectangle((10, 10), 0, 0, 5, 5))], "a: annotation 1: mask of"),
        ([annotation(rectangle(HW, 0, 0, 0, 0))], "a: annotation 0"),
    ],
)
def test_broken_masks_are_named(tmp_path: Path, annotations: list[dict], line: str) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), annotations)})
    with pytest.raises(ValueError, match=line):
        load_photos([shard])


def test_broken_members_are_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), two_objects()), "b": (jpeg(1, HW), None)})
    with pytest.raises(ValueError, match="b: photo without its JSON"):
        load_photos([shard])


def test_what_is_broken_costs_itself_alone(tmp_path: Path) -> None:
    small = jpeg(0, (50, 50))
    samples = {
        "a": (jpeg(0, HW), [two_objects()[0], {"area": 3}, two_objects()[1]]),
        "b": (b"no photo", two_objects()),
        "c": (jpeg(1, HW), two_objects()),
        "d": (small, two_objects()),
        "e": (jpeg(2, HW), [{"area": 3}]),
    }
    problems: list[str] = []
    photos = load_photos([write_shard(tmp_path / "s.tar", samples)], problems.append)
    assert [(photo.id, len(photo.rles), len(photo.points_px)) for photo in photos] == [
        ("a", 2, 2),
        ("c", 2, 2),
    ]
    assert [line.split(":")[0] for line in problems] == ["a", "b", "d", "e"]


@pytest.mark.parametrize(
    "given",
    [
        [[43, 20]],  # beside the mask
        [[30, 20]],  # in its hole
        [[500, 20]],
        [[128, 20]],
        [[-0.5, 20]],
        [[float("nan"), 20]],
        [[1e400, 20]],
        [[10**400, 20]],
        [[12, 12, 40, 40]],  # a box
        [12, 12],
        [["x", 12]],
        [[]],
        [None],
        {"x": 12, "y": 12},
        7,
    ],
)
def test_a_point_off_its_mask_is_replaced_and_counted(tmp_path: Path, given: Any) -> None:
    ring = rectangle(HW, 10, 10, 40, 31) & ~rectangle(HW, 20, 25, 20, 10)
    right = annotation(ring, (12.7, 12.2))
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), [annotation(ring) | {"point_coords": given}, right])})
    problems: list[str] = []
    (photo,) = load_photos([shard], problems.append)
    assert photo.points_px.tolist() == [list(interior_point(ring)), [12.7, 12.2]]
    (line,) = problems
    assert line.startswith("1 recorded points that are not on their masks, such as a: annotation 0: ")
    (photo,) = load_photos([shard])  # no mask is broken
    assert len(photo.rles) == 2


def test_a_point_does_not_save_an_empty_mask(tmp_path: Path) -> None:
    nothing = annotation(rectangle(HW, 0, 0, 0, 0), (5, 5))
    problems: list[str] = []
    load_photos([write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), [nothing, *two_objects()])})], problems.append)
    assert problems == ["a: annotation 0: an empty mask has no interior point"]


def test_photos_without_annotations_are_counted(tmp_path: Path) -> None:
    bare = {name: (jpeg(0, HW), list[dict]()) for name in "bc"}
    problems: list[str] = []
    photos = load_photos([write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), two_objects())} | bare)], problems.append)
    assert photos.ids == ["a"]
    assert problems == ["2 photos without any annotation, such as b"]


def test_the_largest_mask_of_a_photo_is_known_without_decoding(tmp_path: Path) -> None:
    edge = annotation(rectangle(HW, 0, 0, 96, 2))
    shard = write_shard(tmp_path / "s.tar", {"a": (jpeg(0, HW), two_objects()), "b": (jpeg(1, HW), [edge])})
    photos = load_photos([shard])
    assert photos.largest.tolist() == [1500 / 128**2, 0.0]
    assert photos[::-1].largest.tolist() == [0.0, 1500 / 128**2]


def _three(folder: Path) -> tuple[list[Annotated], StoredPhotos]:
    """The same photos, decoded and stored."""
    photos = {name: (jpeg(seed, HW), two_objects()[: seed + 1]) for seed, name in enumerate("abc")}
    shard = write_shard(folder / "s.tar", photos)
    decoded = [annotated(sample, pytest.fail) for sample in read_shard(shard)]
    return [photo for photo in decoded if photo is not None], load_photos([shard])


def _assert_same(stored: Annotated, expected: Annotated) -> None:
    assert (stored.id, stored.rles) == (expected.id, expected.rles)
    for name in ("rgb", "points_px", "areas_px"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(expected, name), err_msg=name)


def test_stored_photos_are_what_they_were(tmp_path: Path) -> None:
    expected, stored = _three(tmp_path)
    assert len(stored) == len(expected) == 3
    for one, other in zip(stored, expected, strict=True):
        _assert_same(one, other)
    _assert_same(stored[-1], expected[-1])
    assert stored[::2].ids == ["a", "c"]
    _assert_same(stored[::2][1], expected[2])
    assert stored.take([2, 0]).ids == ["c", "a"]
    with pytest.raises(IndexError):
        stored[3]


def _as_it_is(photo: Any) -> Any:
    return photo


def test_forked_workers_may_read_the_same_file_at_once(tmp_path: Path) -> None:
    expected, stored = _three(tmp_path)
    order = [0, 1, 2] * 20
    loader: Any = DataLoader(cast(Any, stored), batch_size=None, sampler=order, num_workers=2, collate_fn=_as_it_is)
    for index, photo in zip(order, loader, strict=True):
        _assert_same(photo, expected[index])


def test_edges_are_found_by_the_photos_bytes(tmp_path: Path) -> None:
    _, stored = _three(tmp_path)
    edges = np.full((3, 4), 7, np.uint8)
    known = stored.with_edges({stored.digests[1]: edges})
    assert known[0].edges is None
    np.testing.assert_array_equal(known[1:][0].edges, edges)
    assert stored[1].edges is None
