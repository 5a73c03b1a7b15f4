"""Loops over columns and runs, compiled by Numba: what `trace`, `mask_nms` and `rle` do in NumPy, in one pass.

Numba is an extra (`pip install 'aopsam[fast]'`); without it the NumPy code does the same, slower, and
`tests/aopsam/masks/test_compiled.py` holds the two to equal masks. Nothing here may be contracted or reordered
(`fastmath`): a float32 that is rounded elsewhere can move an outline by a pixel. Each function is compiled for one
signature when this module is imported, and kept on disk (`kernels`). Every slice and every NumPy function costs
compiling time, so there are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit

from aopsam.masks.runs import Ints, Runs

# Wrappers that nobody calls would take a fifth of the compiling time.
_HOW: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_HELPER = _HOW | {"no_cpython_wrapper": True}
_FAR_BELOW = np.float32(-1e9)
"""Logit of the guards above the first knot and below the last, as in `trace`."""
_SURELY = np.float32(1e-5)
"""Share of logit and limit by which they must differ for the logits made of it to be surely on the same side: far more
than the rounding of a few products and sums can come to."""
_AT_ONCE = 16
"""Knots computed at once: a number known beforehand makes vector instructions of short loops."""


@njit(**_HELPER)
def _sides(low, rows, columns, row_taps, column_taps, limits):
    """Tell for places between low-resolution logits on which side of the limits all that lies there surely is.

    Returns:
        (rows, columns) uint8 of a range of each: bits 0 to 2 where all taps from there on are surely above a limit, 3
        to 5 where they are surely below.
    """
    sides = np.empty((rows[1] - rows[0], columns[1] - columns[0]), np.uint8)
    for i in range(sides.shape[0]):
        logits = low[rows[0] + i, columns[0] : columns[1]]
        for j in range(sides.shape[1]):
            value, side = logits[j], np.uint8(0)
            for limit in range(3):
                above, least = value - limits[limit], _SURELY * (abs(value) + abs(limits[limit]))
                side |= np.uint8(above > least) << limit | np.uint8(-above > least) << (limit + 3)
            sides[i, j] = side
    for _ in range(column_taps - 1):
        for i in range(sides.shape[0]):
            for j in range(sides.shape[1] - 1):
                sides[i, j] &= sides[i, j + 1]
    for _ in range(row_taps - 1):
        for i in range(sides.shape[0] - 1):
            for j in range(sides.shape[1]):
                sides[i, j] &= sides[i + 1, j]
    return sides


@njit(**_HELPER)
def _find_pieces(sides, strip, stops, pieces):
    """Find the pieces of a strip's knots where levels may change; return how many there are.

    Args:
        sides: (r, c) uint8, of `_sides`.
        strip: column of them.
        stops: (r,) int64, one past the last knot whose first tap is a row; less where it has none.
        pieces: (P, 2) int64, filled: first knot, one past the last. Around what may change lies a knot more.
    """
    count, knot, level = 0, 0, 0  # before the first knot lies a guard
    for i in range(len(sides) + 1):
        if i < len(sides):
            side, stop = sides[i, strip], stops[i]
        else:
            side, stop = np.uint8(56), knot + 1  # the guard below the last
        if stop <= knot:
            continue
        above = side & np.uint8(7)
        first, knot = knot, stop
        if above | side >> 3 == 7:
            before, level = level, (above & 1) + (above >> 1 & 1) + (above >> 2)
            if before == level or before < 0:
                continue
            stop = first
        else:
            level = -1
        first = max(first - 1, 0)
        if count and first <= pieces[count - 1, 1]:
            pieces[count - 1, 1] = stop + 1
        else:
            pieces[count, 0], pieces[count, 1] = first, stop + 1
            count += 1
    return count


@njit(**_HELPER)
def _first_row(knot, fraction, enlarged, rows_a_knot, knots, height):
    """`Resampling.first_row_after` of one point."""
    if not enlarged:
        return knot + 1
    if knot < 0:
        return 0
    if knot == knots - 1:
        return height
    return np.int64((knot + np.float64(fraction + np.float32(0.5))) * rows_a_knot + 0.5)


@njit(**_HELPER)
def _resample(low, column, taps, weights, first, last, down):
    """Resample one low-resolution column down some knots, as `Taps.resample`; guards come last."""
    for k in range(first, last):
        value = weights[k, 0] * low[taps[k], column]
        for t in range(1, weights.shape[1]):
            value += weights[k, t] * low[min(taps[k] + t, low.shape[0] - 1), column]
        down[k - first] = value
    for k in range(last - first, len(down)):
        down[k] = _FAR_BELOW


@njit(**_HELPER)
def _twice(values, more):
    """Return an array with room for twice as many values and some more."""
    longer = np.empty(2 * len(values) + more, np.int64)
    for i in range(len(values)):
        longer[i] = values[i]
    return longer


@njit(
    "(float32[:, ::1], int64[::1], float32[:, ::1], int64[::1], float32[:, ::1],"
    " UniTuple(int64, 2), UniTuple(int64, 2), boolean, float64, int64, float32[::1])",
    cache=True,
    **_HOW,
)
def trace(
    low, row_taps, row_weights, column_taps, column_weights, knots, columns, enlarged, rows_a_knot, height, limits
):
    """Find areas and runs of one mask.

    Interpolated logits lie between those that they come from. Columns of the photo with the same taps make a strip; in
    those of its knots whose taps are surely on one side of each limit, nothing is computed.

    Args:
        low: (r, c) float32, low-resolution logits.
        row_taps: (n,) int64, first low-resolution row of each knot of the photo.
        row_weights: (n, m) float32, weights of it and the next ones.
        column_taps: (W,) int64, the same of the photo's columns.
        column_weights: (W, m) float32.
        knots: first of the knots where the mask can be, one past the last.
        columns: first of the columns where it can be, one past the last.
        enlarged: whether the photo has rows between knots.
        rows_a_knot: rows of the photo for a knot.
        height: rows of the photo.
        limits: (3,) float32, rising: lower threshold of the stability score, the mask's, upper one.

    Returns:
        Pixels above the upper and the lower threshold; number of runs; starts and stops of them, int64, and room for
        more; left, top, right, bottom.
    """
    starts, stops, count = np.empty(2048, np.int64), np.empty(2048, np.int64), 0
    left, right, lowest, highest = 0, 0, height, 0
    areas, top = np.zeros(3, np.int64), 0
    size = knots[1] - knots[0]
    if size <= 0 or columns[1] <= columns[0]:
        return areas[2], areas[0], count, starts, stops, (0, 0, 0, 0)
    rows = row_taps[knots[0]], min(row_taps[knots[1] - 1] + row_weights.shape[1], low.shape[0])
    taps = column_weights.shape[1]
    lows = column_taps[columns[0]], min(column_taps[columns[1] - 1] + taps, low.shape[1])
    sides = _sides(low, rows, lows, row_weights.shape[1], taps, limits)
    last_knots = np.zeros(rows[1] - rows[0], np.int64)
    for k in range(size):
        last_knots[row_taps[knots[0] + k] - rows[0]] = k + 1
    down, ready = np.empty((lows[1] - lows[0], size + _AT_ONCE), np.float32), 0  # low-resolution columns down the knots
    pieces, found = np.empty((size + 1, 2), np.int64), 0
    values = np.empty(size + 1 + _AT_ONCE, np.float32)  # of a guard, then of the knots
    levels = np.zeros(len(values), np.uint8)  # how many of the limits they are above
    changes = np.empty(size + 2, np.int64)
    values[0] = _FAR_BELOW
    for column in range(columns[0], columns[1]):
        first = column_taps[column] - lows[0]
        second, third = min(first + 1, len(down) - 1), min(first + 2, len(down) - 1)
        if column == columns[0] or column_taps[column] != column_taps[column - 1]:
            found = _find_pieces(sides, first, last_knots, pieces)
            ready = max(ready, first)
            while found and ready <= third:
                _resample(low, lows[0] + ready, row_taps, row_weights, knots[0], knots[1], down[ready])
                ready += 1
        weight_0, weight_1 = column_weights[column, 0], column_weights[column, 1] if taps > 1 else np.float32(0)
        weight_2 = column_weights[column, 2] if taps > 2 else np.float32(0)
        if count + size >= len(starts):
            starts, stops = _twice(starts, size), _twice(stops, size)
        for piece in range(found):
            begin, end = pieces[piece, 0], pieces[piece, 1]
            for at in range(begin, end, _AT_ONCE):
                row_0, row_1, row_2 = (
                    down[first, at : at + _AT_ONCE],
                    down[second, at : at + _AT_ONCE],
                    down[third, at : at + _AT_ONCE],
                )
                value, level = values[at + 1 : at + 1 + _AT_ONCE], levels[at + 1 : at + 1 + _AT_ONCE]
                for k in range(_AT_ONCE):
                    logit = weight_0 * row_0[k] + weight_1 * row_1[k]
                    logit += weight_2 * row_2[k]
                    value[k] = logit
                    level[k] = np.uint8(logit > limits[0]) + np.uint8(logit > limits[1]) + np.uint8(logit > limits[2])
            changed = 0
            for k in range(begin + 1 if begin else 0, end):  # listed first, without a branch that the processor guesses
                changes[changed] = k
                changed += levels[k + 1] != levels[k]
            for change in range(changed):
                k = changes[change]
                before, after, was, now = values[k], values[k + 1], levels[k], levels[k + 1]
                for limit in range(min(was, now), max(was, now)):
                    fraction = (limits[limit] - before) / (after - before)
                    at = _first_row(knots[0] + k - 1, fraction, enlarged, rows_a_knot, len(row_taps), height)
                    areas[limit] += at if now < was else -at
                    if limit != 1:
                        continue
                    if now > was:
                        top = at
                    elif at > top:
                        if count == 0:
                            left = column
                        right, lowest, highest = column, min(lowest, top), max(highest, at)
                        start = column * height + top
                        if count and stops[count - 1] == start:
                            count -= 1
                        else:
                            starts[count] = start
                        stops[count] = column * height + at
                        count += 1
    box = (left, lowest, right, highest - 1) if count else (0, 0, 0, 0)
    return areas[2], areas[0], count, starts, stops, box


def joined(masks: Sequence[Runs]) -> tuple[Ints, Ints]:
    """Join N masks for what is below.

    Returns:
        (R, 2) starts and stops of all runs; (N, 6) of each mask its first run, one past its last, and its box.
    """
    runs = np.empty((sum(len(mask.starts) for mask in masks), 2), np.int64)
    table = np.empty((len(masks), 6), np.int64)
    last = 0
    for row, mask in zip(table, masks, strict=True):
        first, last = last, last + len(mask.starts)
        runs[first:last, 0], runs[first:last, 1] = mask.starts, mask.stops
        row[:] = first, last, *mask.box_xyxy_px
    return runs, table


@njit(**_HELPER)
def _common(table, i, others, j):
    """Count the pixels that the boxes of two masks share, outermost ones included."""
    columns = min(table[i, 4], others[j, 4]) - max(table[i, 2], others[j, 2]) + 1
    rows = min(table[i, 5], others[j, 5]) - max(table[i, 3], others[j, 3]) + 1
    return max(columns, 0) * max(rows, 0)


@njit(**_HELPER)
def _ends_after(runs, first, last, place):
    """Return the first of some runs that ends after a place."""
    while first < last:
        middle = (first + last) // 2
        if runs[middle, 1] > place:
            last = middle
        else:
            first = middle + 1
    return first


@njit(**_HELPER)
def _shared(runs, table, a, other_runs, others, b):
    """Count the pixels that two masks share; what one of them has before the other begins is passed over."""
    i, last, j, other_last, pixels = table[a, 0], table[a, 1], others[b, 0], others[b, 1], 0
    if i < last and j < other_last:
        i = _ends_after(runs, i, last, other_runs[j, 0])
    if i < last and j < other_last:
        j = _ends_after(other_runs, j, other_last, runs[i, 0])
    while i < last and j < other_last:
        start, stop = runs[i, 0], runs[i, 1]
        while j < other_last and other_runs[j, 1] <= stop:
            pixels += max(0, other_runs[j, 1] - max(start, other_runs[j, 0]))
            j += 1
        if j < other_last:
            pixels += max(0, stop - max(start, other_runs[j, 0]))
        i += 1
    return pixels


@njit("(int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], boolean)", cache=True, **_HOW)
def intersections(runs, table, other_runs, others, alike):
    """Count the pixels that each of N masks shares with each of M others: (N, M) int64.

    Args:
        runs: of the masks, `joined`.
        table: of the masks.
        other_runs: of the others.
        others: their table.
        alike: whether they are the same masks; each pair is then looked at once.
    """
    pixels = np.zeros((len(table), len(others)), np.int64)
    for i in range(len(table)):
        for j in range(i if alike else 0, len(others)):
            if _common(table, i, others, j):
                pixels[i, j] = _shared(runs, table, i, other_runs, others, j)
                if alike:
                    pixels[j, i] = pixels[i, j]
    return pixels


@njit("(int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], float64, int64[::1])", cache=True, **_HOW)
def mask_nms(runs, table, area, order, threshold, kept):
    """Keep masks (`joined`) that share too little with those kept before, in an order; fill `kept`, return how many."""
    count = 0
    for i in order:
        repeats = False
        for other in range(count):
            j = kept[other]
            both = area[i] + area[j]
            most = min(_common(table, i, table, j), area[i], area[j])
            if most / max(both - most, 1) > threshold:
                pixels = _shared(runs, table, i, runs, table, j)
                if pixels / max(both - pixels, 1) > threshold:
                    repeats = True
                    break
        if not repeats:
            kept[count] = i
            count += 1
    return count


@njit("(int64[::1], uint8[::1])", cache=True, **_HOW)
def write_counts(lengths, written):
    """Write the characters of COCO's compressed run lengths to `written` (seven a length are enough); count them."""
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
    return count
