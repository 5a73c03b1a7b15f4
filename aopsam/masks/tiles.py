"""Large photos in tiles: where they lie, and which masks are pieces of one object that a seam cuts.

Neighbouring tiles overlap. An object across a seam is cut in each of them, but where they overlap both have seen it:
two pieces that agree there are one object.
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
"""A mask that comes this close to a tile's inner border may go on beyond it; segment-anything's figure for crops."""


def tile_boxes(hw: tuple[int, int], size: int, overlap: float) -> list[BoxXYXY]:
    """Tiles that cover a photo, row by row: XYXY in pixels, right and bottom excluded.

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
    """What tiles say together.

    Attributes:
        groups: indices of the masks that are one object, each mask in at most one group.
        cut: masks that end at an inner border and that nothing beyond continues, and what they were joined with.
    """

    groups: list[list[int]]
    cut: list[int]


def join(masks: Sequence[Runs], tiles: Sequence[BoxXYXY], threshold: float) -> Joined:
    """Find the pieces of objects that seams cut.

    Two masks of overlapping tiles belong together where each is the other's best match within the overlap, with an IoU
    there above the threshold. What is joined must go on wherever one of its pieces comes near an inner border.

    Args:
        masks: N, in the frame of the photo.
        tiles: (N) the tile that each was found in, XYXY.
        threshold: least IoU of two pieces within the overlap of their tiles.
    """
    by_tile: dict[BoxXYXY, list[int]] = {}
    for i, tile in enumerate(tiles):
        by_tile.setdefault(tile, []).append(i)
    matches = [
        match
        for one, other in combinations(by_tile, 2)
        for match in _matches(masks, (one, by_tile[one]), (other, by_tile[other]), threshold)
    ]
    open_sides = [_open_sides(mask, tile, mask.hw) for mask, tile in zip(masks, tiles, strict=True)]
    for i, j in matches:
        open_sides[i] -= _beyond(tiles[i], tiles[j])
        open_sides[j] -= _beyond(tiles[j], tiles[i])
    pairs = np.array(matches, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(len(masks), len(masks)))
    members: dict[int, list[int]] = {}
    for i, group in enumerate(connected_components(graph, directed=False)[1].tolist() if masks else ()):
        members.setdefault(group, []).append(i)
    whole = [group for group in members.values() if not any(open_sides[i] for i in group)]
    kept = {i for group in whole for i in group}
    return Joined(whole, [i for i in range(len(masks)) if i not in kept])


def _matches(
    masks: Sequence[Runs],
    one: tuple[BoxXYXY, list[int]],
    other: tuple[BoxXYXY, list[int]],
    threshold: float,
) -> list[tuple[int, int]]:
    """Pairs (mask of one tile, mask of the other) that are each other's best match where the tiles overlap."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = one[0], other[0]
    common = (max(x0, u0), max(y0, v0), min(x1, u1), min(y1, v1))
    if common[0] >= common[2] or common[1] >= common[3]:
        return []
    ours, theirs = ([masks[i].within(*common) for i in side[1]] for side in (one, other))
    shared = intersections(ours, theirs)
    iou = shared / np.maximum(areas(ours)[:, None] + areas(theirs) - shared, 1)
    found = []
    for row, column in np.argwhere(iou > threshold).tolist():
        if iou[row, column] == max(iou[row].max(), iou[:, column].max()):
            found.append((one[1][row], other[1][column]))
    return found


def _open_sides(mask: Runs, tile: BoxXYXY, hw: tuple[int, int]) -> set[int]:
    """Sides of a tile (0 left, 1 top, 2 right, 3 bottom), within the photo, that a mask comes near."""
    at_photo = (tile[0] == 0, tile[1] == 0, tile[2] == hw[1], tile[3] == hw[0])
    box = mask.box_xyxy_px
    return {side for side in range(4) if not at_photo[side] and abs(box[side] - tile[side]) <= NEAR_PX}


def _beyond(tile: BoxXYXY, other: BoxXYXY) -> set[int]:
    """Sides of a tile beyond which another one goes on."""
    return {side for side in range(4) if (other[side] - tile[side]) * (1 if side > 1 else -1) > 0}
