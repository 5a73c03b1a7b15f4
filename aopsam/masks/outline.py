"""Trace the outlines of a mask through the middles of its outermost pixels, and join them to one closed line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Ints = npt.NDArray[np.int64]


class Outline(NamedTuple):
    """A closed line along the outermost pixels of a mask's part, or around a hole.

    Attributes:
        points_xy: (K, 2) int64, columns and rows of the mask's pixels along it, each next to the one before; closed
            without a repeated point. Filled with its edge, as OpenCV fills polygons, it is the part without a loss on
            any side.
        area: pixels that it encloses, those of holes too; of a hole those of the hole, negative.
        part: number of the part that it bounds, from 1; holes have that of the part they are in.
    """

    points_xy: Ints
    area: int
    part: int


class Joined(NamedTuple):
    """A mask as one closed line.

    Attributes:
        points_xy: (K, 2) int64, the points where the line turns.
        least_iou: IoU with the mask that the filled line has at least, for cuts between parts and parts left out.
    """

    points_xy: Ints
    least_iou: float


def outlines(mask: npt.NDArray[np.bool_]) -> list[Outline]:
    """Trace every part of a mask (H, W) bool and every hole in one, in the order of their topmost rows.

    Pixels that touch at a corner are of one part, those of a hole touch along sides, as OpenCV's `findContours` has it.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    beyond = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])  # above, right, below, left
    pixels = [np.argwhere(inside & ~side)[:, ::-1] for side in beyond]
    if not len(pixels[0]):
        return []
    # Each side of a pixel that borders on the background is an edge; the mask lies to its right.
    begin, end = ((0, 0), (1, 0), (1, 1), (0, 1)), ((1, 0), (1, 1), (0, 1), (0, 0))
    width = mask.shape[1] + 1
    pixel = np.concatenate(pixels)
    way = np.repeat(np.arange(4), [len(each) for each in pixels])
    first, last = ((pixel + np.array(corner)[way]) @ (1, width) for corner in (begin, end))
    following = _following(first, last, way)
    parts = ndimage.label(mask, np.ones((3, 3)))[0]
    found, left = [], np.ones(len(pixel), np.bool_)
    for start in range(len(pixels[0])):  # every line has an edge above a pixel
        if left[start]:
            line = [start]
            while (edge := following[line[-1]]) != start:
                line.append(edge)
            left[line] = False
            corners = pixel[line] + np.array(begin)[way[line]]
            part = int(parts[tuple(pixel[start][::-1])])
            found.append(Outline(_distinct(pixel[line]), _enclosed(corners), part))
    return found


def _following(first: Ints, last: Ints, way: Ints) -> list[int]:
    """Return for each edge the one that goes on from its last corner; of two the one to the left, to another pixel."""
    order = np.argsort(first, kind="stable")
    place = np.searchsorted(first[order], last)
    second = np.minimum(place + 1, len(first) - 1)
    crossing = (second > place) & (first[order][second] == last)
    turns_left = way[order][second] == (way + 3) % 4
    following: list[int] = order[np.where(crossing & turns_left, second, place)].tolist()
    return following


def _enclosed(corners: Ints) -> int:
    x, y = corners.T
    return int(x @ np.roll(y, -1) - y @ np.roll(x, -1)) // 2


def _distinct(points: Ints) -> Ints:
    """Leave out points of a closed line that repeat the one before."""
    moved = (points != np.roll(points, 1, axis=0)).any(axis=1)
    return points[moved] if moved.any() else points[:1]


def _turns(points: Ints) -> Ints:
    """Leave out points of a closed line that repeat the one before, or lie between two in one direction."""
    points = _distinct(points)
    if len(points) < 3:
        return points
    arriving, leaving = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[(arriving != leaving).any(axis=1)]


def joined(lines: list[Outline]) -> Joined:
    """Join the outlines of a mask to one closed line, by a cut to the nearest point for each hole and part.

    Filled, a cut shows nothing inside the mask and a line of one pixel between its parts; a part of fewer pixels than
    that line is left out. So parts that lie far apart cost either.

    Args:
        lines: at least one, of `outlines`.
    """
    pixels = np.bincount([line.part for line in lines], [line.area for line in lines])
    points = np.concatenate([line.points_xy for line in lines])
    of_line = np.repeat(np.arange(len(lines)), [len(line.points_xy) for line in lines])
    places = [slice(*ends) for ends in np.searchsorted(of_line, [[n, n + 1] for n in range(len(lines))]).tolist()]
    # Nodes are points of the joined line, each with the one that follows.
    nodes, following = points.tolist(), list(range(1, len(points) + 1))
    for place in places:
        following[place.stop - 1] = place.start
    distance, nearest = np.full(len(points), np.inf), np.zeros(len(points), np.int64)

    def reach(line: int) -> Ints:
        """Note which points are nearer to a joined line than to the others; return those that are not joined."""
        of_line[places[line]] = -1
        rest = np.flatnonzero(of_line >= 0)
        if len(rest):
            away, at = cKDTree(points[places[line]]).query(points[rest], p=np.inf)
            closer = away < distance[rest]
            distance[rest[closer]], nearest[rest[closer]] = away[closer], at[closer] + places[line].start
        return rest

    largest = max(range(len(lines)), key=lambda n: (pixels[lines[n].part], lines[n].area))
    parts, left_out, added = {lines[largest].part}, 0, 0
    rest = reach(largest)
    while len(rest):
        there = int(rest[distance[rest].argmin()])
        line, here = int(of_line[there]), int(nearest[there])
        part = lines[line].part
        if part not in parts:
            if pixels[part] < distance[there]:
                for other in range(len(lines)):
                    if lines[other].part == part:
                        of_line[places[other]] = -1
                left_out += int(pixels[part])
                rest = np.flatnonzero(of_line >= 0)
                continue
            parts.add(part)
            added += int(distance[there]) - 1
        before = (there if there > places[line].start else places[line].stop) - 1
        bend, new = _bend(nodes[here], nodes[there]), len(nodes)
        nodes += [bend, nodes[there], bend, nodes[here]]
        following += [there, new + 2, new + 3, following[here]]
        following[here], following[before] = new, new + 1
        rest = reach(line)
    order = [places[largest].start]
    while (after := following[order[-1]]) != order[0]:
        order.append(after)
    points_xy = _turns(np.array([nodes[place] for place in order], np.int64))
    return Joined(points_xy, float((pixels.sum() - left_out) / (pixels.sum() + added)))


def _bend(here: list[int], there: list[int]) -> list[int]:
    """Return the point where a cut turns from a diagonal to a straight line: there and back it has the same pixels."""
    x, y = there[0] - here[0], there[1] - here[1]
    along = min(abs(x), abs(y))
    return [here[0] + along * (x > 0) - along * (x < 0), here[1] + along * (y > 0) - along * (y < 0)]
