"""Tiles of large photos: place them, and join masks that are pieces of one object that a seam cuts.

Neighbouring tiles overlap. An object across a seam is cut in each of them, but both show it where they overlap: two
pieces that agree there are one object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aopsam.masks.overlap import areas, intersections
from aopsam.masks.runs import Runs

BoxXYXY = tuple[int, int, int, int]

NEAR_PX = 20
"""Distance to a tile's inner border within which a mask may go on beyond it; segment-anything's figure for crops."""
SPECKS = 0.01
"""Share of a mask that may lie within `NEAR_PX` of an inner border without counting as cut."""


def tile_boxes(hw: tuple[int, int], size: int, overlap: float) -> list[BoxXYXY]:
    """Return the tiles that cover a photo, row by row: XYXY in pixels, right and bottom excluded.

    Args:
        hw: rows and columns of the photo.
        size: side of a tile, pixels; a photo that is smaller along an axis is one tile there.
        overlap: least share of a tile that it has in common with the next; the last ones may share more.
    """
    tops, lefts = (_starts(length, size, overlap) for length in hw)
    return [(x, y, min(x + size, hw[1]), min(y + size, hw[0])) for y in tops for x in lefts]


def _starts(length: int, size: int, overlap: float) -> list[int]:
    if length <= size:
        return [0]
    count = 1 + int(np.ceil((length - size) / (size * (1 - overlap))))
    return np.linspace(0, length - size, count).round().astype(int).tolist()


@dataclass(frozen=True)
class Joined:
    """Masks of all tiles joined into objects.

    Attributes:
        groups: indices of the masks that are one object, each mask in at most one group.
        cut: how many masks end at an inner border with nothing beyond that continues them.
    """

    groups: list[list[int]]
    cut: int


def join(masks: Sequence[Runs], tiles: Sequence[BoxXYXY], scores: Sequence[float], threshold: float) -> Joined:
    """Find the pieces of objects that seams cut.

    A mask near an inner border of its tile is cut. Where tiles overlap, masks with an IoU above the threshold agree.

    - A cut mask that agrees with one that is not cut, in a neighbouring tile, is a piece of that one, and is dropped.
    - Of two tiles' other cut masks, pairs that agree are joined, each mask to one at most, the best-scored first.
    - Joined masks must go on beyond every inner border that one of them comes near, or they are dropped.

    Args:
        masks: N masks, in the frame of the photo.
        tiles: (N) the tile that each was found in, XYXY.
        scores: (N) higher is better.
        threshold: least IoU of two masks within the overlap of their tiles.
    """
    by_tile: dict[BoxXYXY, list[int]] = {}
    for i, tile in enumerate(tiles):
        by_tile.setdefault(tile, []).append(i)
    sides = [_open_sides(mask, tile) for mask, tile in zip(masks, tiles, strict=True)]
    agreeing = [
        pair
        for (one, ours), (other, theirs) in combinations(by_tile.items(), 2)
        for pair in _agreeing(masks, (one, ours), (other, theirs), threshold)
        if sides[pair[0]] or sides[pair[1]]
    ]
    pieces = {i for pair in agreeing for i, other in (pair, pair[::-1]) if sides[i] and not sides[other]}
    pairs = [pair for pair in agreeing if not pieces & set(pair)]
    pairs.sort(key=lambda pair: -scores[pair[0]] - scores[pair[1]])
    taken: set[tuple[int, BoxXYXY]] = set()
    joined = []
    for i, j in pairs:
        ends = {(i, tiles[j]), (j, tiles[i])}
        if not ends & taken:
            taken |= ends
            joined.append((i, j))
            sides[i] -= _beyond(tiles[i], tiles[j])
            sides[j] -= _beyond(tiles[j], tiles[i])
    groups = [g for g in _connected(len(masks), joined) if g[0] not in pieces]
    whole = [group for group in groups if not any(sides[i] for i in group)]
    return Joined(whole, sum(map(len, groups)) - sum(map(len, whole)))


def _connected(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Group the numbers 0 … count - 1 that chains of pairs join; union-find."""
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    members: dict[int, list[int]] = {}
    for i, group in enumerate(connected_components(graph, directed=False)[1].tolist() if count else ()):
        members.setdefault(group, []).append(i)
    return list(members.values())


def _agreeing(
    masks: Sequence[Runs],
    one: tuple[BoxXYXY, list[int]],
    other: tuple[BoxXYXY, list[int]],
    threshold: float,
) -> list[tuple[int, int]]:
    """Return pairs (mask of one tile, mask of the other) with an IoU above the threshold where the tiles overlap."""
    left, top = (max(one[0][side], other[0][side]) for side in (0, 1))
    right, bottom = (min(one[0][side], other[0][side]) for side in (2, 3))
    if left >= right or top >= bottom:
        return []
    ours, theirs = ([i for i in side[1] if _reaches(masks[i], (left, top, right, bottom))] for side in (one, other))
    parts, others = ([masks[i].within(left, top, right, bottom) for i in side] for side in (ours, theirs))
    shared = intersections(parts, others)
    iou = shared / np.maximum(areas(parts)[:, None] + areas(others) - shared, 1)
    return [(ours[row], theirs[column]) for row, column in np.argwhere(iou > threshold).tolist()]


def _reaches(mask: Runs, box: BoxXYXY) -> bool:
    x0, y0, x1, y1 = mask.box_xyxy_px
    return x0 < box[2] and y0 < box[3] and x1 >= box[0] and y1 >= box[1]


def _open_sides(mask: Runs, tile: BoxXYXY) -> set[int]:
    """Return a tile's inner sides (0 left, 1 top, 2 right, 3 bottom) near which more than `SPECKS` of a mask lies."""
    x0, y0, x1, y1 = tile
    at_photo = (x0 == 0, y0 == 0, x1 == mask.hw[1], y1 == mask.hw[0])
    bands = (
        (x0, y0, min(x0 + NEAR_PX, x1), y1),
        (x0, y0, x1, min(y0 + NEAR_PX, y1)),
        (max(x1 - NEAR_PX, x0), y0, x1, y1),
        (x0, max(y1 - NEAR_PX, y0), x1, y1),
    )
    limit = SPECKS * mask.area
    return {
        side
        for side, band in enumerate(bands)
        if not at_photo[side] and _reaches(mask, band) and mask.within(*band).area > limit
    }


def _beyond(tile: BoxXYXY, other: BoxXYXY) -> set[int]:
    """Return the sides of a tile beyond which another one goes on."""
    return {side for side in range(4) if (other[side] - tile[side]) * (1 if side > 1 else -1) > 0}
