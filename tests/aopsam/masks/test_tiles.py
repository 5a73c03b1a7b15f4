"""Pieces of known objects, cut by tiles and put together again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from aopsam.masks import rle
from aopsam.masks.overlap import agreement
from aopsam.masks.runs import Runs, union
from aopsam.masks.tiles import NEAR_PX, join, tile_boxes
from aopsam.metrics import iou_matrix

HW = (900, 1200)
Y, X = np.mgrid[: HW[0], : HW[1]]


@pytest.mark.parametrize(
    ("hw", "size", "overlap"), [((900, 1200), 512, 0.25), ((512, 512), 512, 0.5), ((100, 2000), 256, 0.1)], ids=str
)
def test_tiles_cover_the_photo_and_overlap(hw: tuple[int, int], size: int, overlap: float) -> None:
    tiles = tile_boxes(hw, size, overlap)
    covered = np.zeros(hw, int)
    for x0, y0, x1, y1 in tiles:
        assert (x1 - x0, y1 - y0) == (min(size, hw[1]), min(size, hw[0]))
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1
    for side, length in ((0, hw[1]), (1, hw[0])):
        starts = sorted({tile[side] for tile in tiles})
        assert starts[-1] + min(size, length) == length
        assert all(later - earlier <= size * (1 - overlap) + 1 for earlier, later in pairwise(starts))


OBJECTS = {
    "inside one tile": np.hypot(Y - 100, X - 150) < 60,
    "across one seam": np.hypot(Y - 100, X - 480) < 90,
    "across a corner": np.hypot(Y - 450, X - 500) < 120,
    "a bar across the photo": (abs(Y - 640) < 40) & (X > 60) & (X < 1150),
    "larger than a tile": np.hypot(Y - 450, X - 700) < 420,
    "an L": ((abs(X - 900) < 50) & (Y > 50) & (Y < 800)) | ((abs(Y - 780) < 40) & (X > 500) & (X < 900)),
    "a ring around tiles": abs(np.hypot(Y - 450, X - 600) - 350) < 40,
    "to the photo's edge": (X > 1000) & (Y > 300),
    "everything": np.ones(HW, bool),
}


def pieces(objects: list[np.ndarray], size: int = 512) -> tuple[list[Runs], list[tuple[int, int, int, int]]]:
    """What each tile shows of each object."""
    masks, tiles = [], []
    for tile in tile_boxes(HW, size, 0.25):
        x0, y0, x1, y1 = tile
        for shown in (mask[y0:y1, x0:x1] for mask in objects):
            if shown.any():
                masks.append(Runs.of_mask(shown).placed(x0, y0, HW))
                tiles.append(tile)
    return masks, tiles


def unions(masks: list[Runs], groups: list[list[int]]) -> list[dict]:
    made = [rle.from_runs(union([masks[i] for i in group])) for group in groups]
    return list({mask["counts"]: mask for mask in made}.values())  # an object inside two tiles is there twice


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("size", [256, 512])
def test_one_object_is_put_together_from_its_pieces(name: str, size: int) -> None:
    masks, tiles = pieces([OBJECTS[name]], size)
    joined = join(masks, tiles, [1.0] * len(masks), 0.7)
    made = unions(masks, joined.groups)
    assert len(made) == 1
    assert iou_matrix(made, [rle.encode(OBJECTS[name])])[0, 0] > 0.97
    assert joined.cut == 0


def test_many_objects_at_once_are_each_found_once() -> None:
    apart = ["inside one tile", "across one seam", "across a corner", "a bar across the photo", "to the photo's edge"]
    objects = [
        OBJECTS[name] & ~sum((OBJECTS[other] for other in apart[:i]), np.zeros(HW, bool))
        for i, name in enumerate(apart)
    ]
    masks, tiles = pieces(objects)
    made = unions(masks, join(masks, tiles, [1.0] * len(masks), 0.7).groups)
    iou = iou_matrix(made, [rle.encode(mask) for mask in objects])
    assert iou.max(axis=0).min() > 0.97
    assert (iou > 0.5).sum(axis=0).tolist() == [1] * len(objects)


def test_of_two_masks_that_agree_in_the_overlap_the_better_is_joined() -> None:
    """One tile sees the object alone, and with another that touches it outside the overlap."""
    bar = (abs(Y - 100) < 40) & (X > 200) & (X < 800)
    more = bar | ((abs(Y - 200) < 70) & (X > 100) & (X < 300))
    masks, tiles = pieces([bar])
    others, more_tiles = pieces([more])
    wrong = next(mask for mask, tile in zip(others, more_tiles, strict=True) if tile[:2] == (0, 0))
    for scores, right in (([0.9, 0.5], True), ([0.5, 0.9], False)):
        joined = join([*masks, wrong], [*tiles, (0, 0, 512, 512)], [scores[0]] * len(masks) + [scores[1]], 0.7)
        made = unions([*masks, wrong], joined.groups)
        assert iou_matrix(made, [rle.encode(bar if right else more)]).max() > 0.97


def test_what_nothing_continues_goes() -> None:
    masks, tiles = pieces([OBJECTS["across one seam"]])
    first = tiles[0]
    alone = [mask for mask, tile in zip(masks, tiles, strict=True) if tile == first]
    joined = join(alone, [first] * len(alone), [1.0] * len(alone), 0.7)
    assert (joined.groups, joined.cut) == ([], len(alone))


def test_a_piece_of_a_whole_object_goes_and_the_whole_stays_as_it_is() -> None:
    tiles = tile_boxes(HW, 512, 0.25)
    disc = np.hypot(Y - 100, X - (tiles[1][0] + 80)) < 50  # whole in the second tile
    masks = [Runs.of_mask(disc & (tiles[0][2] - 100 > X)), Runs.of_mask(disc)]
    cut = Runs.of_mask((disc & (tiles[0][2] > X)) | ((abs(Y - 100) < 5) & (X > 480) & (X < 512)))
    joined = join([cut, masks[1]], [tiles[0], tiles[1]], [0.9, 0.5], 0.7)
    assert (joined.groups, joined.cut) == ([[1]], 0)


def test_a_speck_at_the_border_does_not_cut_a_mask() -> None:
    tiles = tile_boxes(HW, 512, 0.25)
    disc = np.hypot(Y - 150, X - 150) < 80
    speck = disc | ((abs(Y - 20) < 2) & (X > 512 - NEAR_PX) & (X < 512))
    assert join([Runs.of_mask(speck)], [tiles[0]], [1.0], 0.7).groups == [[0]]


def test_agreement_counts_masks_that_are_nearly_the_same() -> None:
    discs = [Runs.of_mask(np.hypot(Y - 450, X - 600) < radius) for radius in (100, 101, 102, 300)]
    assert agreement([*discs, Runs.of_mask(np.zeros(HW, bool))]).tolist() == [3, 3, 3, 1, 1]
    assert agreement([]).tolist() == []


def test_nothing_to_join() -> None:
    joined = join([], [], [], 0.7)
    assert (joined.groups, joined.cut) == ([], 0)
