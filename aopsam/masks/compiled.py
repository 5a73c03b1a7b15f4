"""Loops over columns and runs, compiled by Numba: what `trace`, `mask_nms` and `rle` do in NumPy, in one pass.

Numba is an extra (`pip install 'aopsam[fast]'`); without it the NumPy code does the same, slower, and
`tests/aopsam/masks/test_compiled.py` holds the two to equal masks. Nothing here may be contracted or reordered
(`fastmath`): a float32 that is rounded elsewhere can move an outline by a pixel. Compiled once for a machine and kept
on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from aopsam.masks.runs import Ints, Runs

_IN_ALL_EIGHT = np.uint64(0x0101010101010101)
"""Eight values of a column are looked at together: most of them lie on one side of every limit."""


@njit(cache=True, nogil=True)
def _first_row(knot, before, after, threshold, enlarged, rows_a_knot, knots, height):
    """`Resampling.first_row_after` of one crossing between a knot and the next."""
    if not enlarged:
        return knot + 1
    if knot < 0:
        return 0
    if knot == knots - 1:
        return height
    fraction = (threshold - before) / (after - before)
    return np.int64((knot + np.float64(fraction + np.float32(0.5))) * rows_a_knot + 0.5)


@njit(cache=True, nogil=True)
def trace(down, first, weights, columns, first_knot, enlarged, rows_a_knot, knots, height, threshold, offset, least):
    """Compute stability and runs of one mask.

    Args:
        down: (taps, n + 1) float32, low-resolution columns down the knots, the last a guard far below.
        first: (W,) int64, first low-resolution column, as a row of `down`, of each of the region's columns.
        weights: (W, m) float32, weights of it and the next ones.
        columns: first of the region's columns in the photo.
        first_knot: first of the region's knots.
        enlarged: whether the photo has rows between knots.
        rows_a_knot: rows of the photo for a knot.
        knots: of the photo.
        height: rows of the photo.
        threshold: where logits are binarised, float32.
        offset: of the stability score, float32, 0 or more.
        least: least stability; 0 lets all pass.

    Returns:
        Pixels above threshold + offset and threshold - offset; whether runs were made; starts and stops of runs, (R,)
        int64 each, joined over columns; left, top, right, bottom.
    """
    size = down.shape[1]
    values, levels = np.empty(size, np.float32), np.zeros((size + 7) // 8 * 8, np.uint8)
    eights = levels.view(np.uint64)
    limits = (threshold - offset, threshold, threshold + offset)
    tops, areas = np.zeros(3, np.int64), np.zeros(3, np.int64)
    starts, stops = np.empty(256, np.int64), np.empty(256, np.int64)
    count, left, right, lowest, highest = 0, 0, 0, height, 0
    for c in range(len(first)):
        row, weight = down[first[c]], weights[c, 0]
        for k in range(size):
            values[k] = weight * row[k]
        for t in range(1, weights.shape[1]):
            weight = weights[c, t]
            if weight != 0:
                row = down[first[c] + t]
                for k in range(size):
                    values[k] += weight * row[k]
        for k in range(size):  # how many of the limits each value is above; the guard, the last, is above none
            value = values[k]
            levels[k] = np.uint8(value > limits[0]) + np.uint8(value > limits[1]) + np.uint8(value > limits[2])
        last = 0
        for eight in range(len(eights)):
            if eights[eight] == np.uint64(last) * _IN_ALL_EIGHT:
                continue
            for k in range(8 * eight, 8 * eight + 8):
                level = levels[k]
                if level == last:
                    continue
                before = values[k - 1] if k else np.float32(0)
                for limit in range(min(last, level), max(last, level)):
                    at = _first_row(
                        first_knot + k - 1, before, values[k], limits[limit], enlarged, rows_a_knot, knots, height
                    )
                    if level > last:
                        tops[limit] = at
                        continue
                    top = tops[limit]
                    if at <= top:
                        continue
                    areas[limit] += at - top
                    if limit != 1:
                        continue
                    if count == 0:
                        left = columns + c
                    right, lowest, highest = columns + c, min(lowest, top), max(highest, at)
                    start = (columns + c) * height + top
                    if count and stops[count - 1] == start:
                        stops[count - 1] = start + at - top
                        continue
                    if count == len(starts):
                        starts, stops = np.append(starts, starts), np.append(stops, stops)
                    starts[count], stops[count] = start, start + at - top
                    count += 1
                last = level
    inner, outer = areas[2], areas[0]
    stability = inner / outer if outer else np.nan
    kept = least <= 0 or stability >= least
    box = (left, lowest, right, highest - 1) if count else (0, 0, 0, 0)
    return stability, kept, starts[:count].copy(), stops[:count].copy(), box


def joined(masks: Sequence[Runs]) -> tuple[Ints, Ints, Ints, Ints]:
    """Join masks for what is below: starts and stops of all runs; where each mask's end, (N + 1,); boxes, (N, 4)."""
    starts, stops = (
        np.concatenate([np.zeros(0, np.int64), *runs])
        for runs in zip(*((m.starts, m.stops) for m in masks), strict=True)
    )
    ends = np.cumsum([0, *(len(mask.starts) for mask in masks)])
    return starts, stops, ends, np.array([mask.box_xyxy_px for mask in masks], np.int64)


@njit(cache=True, nogil=True)
def _common(box, other):
    """Count the pixels that two boxes share, outermost ones included."""
    columns = min(box[2], other[2]) - max(box[0], other[0]) + 1
    rows = min(box[3], other[3]) - max(box[1], other[1]) + 1
    return max(columns, 0) * max(rows, 0)


@njit(cache=True, nogil=True)
def shared(starts, stops, other_starts, other_stops):
    """Count the pixels that two masks share, given by their runs."""
    i, j, pixels = 0, 0, 0
    while i < len(starts) and j < len(other_starts):
        pixels += max(0, min(stops[i], other_stops[j]) - max(starts[i], other_starts[j]))
        if stops[i] < other_stops[j]:
            i += 1
        else:
            j += 1
    return pixels


@njit(cache=True, nogil=True)
def intersections(rows, columns):
    """Count the pixels that each of N masks shares with each of M others: (N, M) int64; each side is `joined`."""
    starts, stops, ends, boxes = rows
    other_starts, other_stops, other_ends, other_boxes = columns
    pixels = np.zeros((len(boxes), len(other_boxes)), np.int64)
    for i in range(len(boxes)):
        a = slice(ends[i], ends[i + 1])
        for j in range(len(other_boxes)):
            if _common(boxes[i], other_boxes[j]):
                b = slice(other_ends[j], other_ends[j + 1])
                pixels[i, j] = shared(starts[a], stops[a], other_starts[b], other_stops[b])
    return pixels


@njit(cache=True, nogil=True)
def mask_nms(masks, area, order, threshold):
    """Keep masks (`joined`) that share too little with those kept before, in an order; return their indices."""
    starts, stops, ends, boxes = masks
    kept = np.empty(len(order), np.int64)
    count = 0
    for i in order:
        alike = False
        for j in kept[:count]:
            both = area[i] + area[j]
            most = min(_common(boxes[i], boxes[j]), area[i], area[j])
            if most / max(both - most, 1) <= threshold:
                continue
            a, b = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
            pixels = shared(starts[a], stops[a], starts[b], stops[b])
            if pixels / max(both - pixels, 1) > threshold:
                alike = True
                break
        if not alike:
            kept[count] = i
            count += 1
    return kept[:count].copy()


@njit(cache=True, nogil=True)
def write_counts(lengths):
    """Write the characters of COCO's compressed run lengths, (N,) uint8."""
    written = np.empty(7 * len(lengths), np.uint8)
    count = 0
    for i in range(len(lengths)):
        number = lengths[i] - lengths[i - 2] if i > 2 else lengths[i]
        more = True
        while more:
            group = number & 0x1F
            number >>= 5
            more = number != (-1 if group & 0x10 else 0)
            written[count] = group + (0x20 if more else 0) + 48
            count += 1
    return written[:count].copy()
