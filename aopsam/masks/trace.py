"""Masks from low-resolution logits, without ever making one: runs of pixels, traced where the logits cross a threshold.

SAM blows every candidate up to the photo's size, three times over (logits, two thresholds of the stability score),
before it knows whether to keep it. But interpolated logits lie between those that they come from: a mask ends where its
low-resolution logits do, and only columns and rows around it need to be looked at. There, columns are computed one
beside the other as a matrix product, a block at a time; down a column a mask begins and ends where the logits cross
the threshold, and those few crossings are all that areas, boxes, the stability score and the run-length code need.
Memory follows from a block, not from the photo.

`tests/test_masks_trace.py` holds it together with masks made at full size, as SAM makes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from aopsam.masks.resampling import Resampling
from aopsam.masks.runs import Ints, Runs

_COLUMNS_AT_ONCE = 256
_FAR_BELOW = -1e9
"""Logit of the guard below the last row: it ends every run."""


@dataclass(frozen=True)
class Traced:
    """One candidate.

    Attributes:
        stability: |logit > threshold + offset| / |logit > threshold - offset|; NaN where the latter is nothing.
        runs: of logit > threshold; None where the stability was too low to look.
    """

    stability: float
    runs: Runs | None


def trace(
    low_res_logits: torch.Tensor,
    resampling: Resampling,
    *,
    threshold: float,
    offset: float,
    least_stability: float,
) -> list[Traced]:
    """Stability and runs of K masks.

    Args:
        low_res_logits: (K, r, c) float32, on the CPU.
        resampling: from there to the photo.
        threshold: where logits are binarised.
        offset: of the stability score.
        least_stability: masks with a lower one get no runs; 0 lets all pass, even NaN.
    """
    lowest = threshold - abs(offset)
    above = low_res_logits > lowest
    rows, columns = _extent(above.any(dim=2)), _extent(above.any(dim=1))
    return [
        _trace(logits, (slice(*row), slice(*column)), resampling, threshold, offset, least_stability)
        for logits, row, column in zip(low_res_logits, rows, columns, strict=True)
    ]


def _trace(
    logits: torch.Tensor,
    low: tuple[slice, slice],
    resampling: Resampling,
    threshold: float,
    offset: float,
    least_stability: float,
) -> Traced:
    knots, columns = resampling.knots_of(low[0]), resampling.columns_of(low[1])
    # Low-resolution columns down the knots, with the guard below: weights of a column add up to 1 and keep it.
    taps = resampling.taps_of_columns(columns) if columns.stop > columns.start else slice(0, 0)
    down = torch.empty(taps.stop - taps.start, knots.stop - knots.start + 1)
    down[:, -1] = _FAR_BELOW
    down[:, :-1] = logits[:, taps].mT @ resampling.knots[knots].mT
    blocks = []
    for start in range(columns.start, columns.stop, _COLUMNS_AT_ONCE):
        block = slice(start, min(start + _COLUMNS_AT_ONCE, columns.stop))
        own = resampling.taps_of_columns(block)
        values = resampling.columns[block, own] @ down[own.start - taps.start : own.stop - taps.start]
        blocks.append((start, values.numpy()))
    inner = sum(_area(values, resampling, knots.start, threshold + offset) for _, values in blocks)
    outer = sum(_area(values, resampling, knots.start, threshold - offset) for _, values in blocks)
    stability = inner / outer if outer else float("nan")
    if least_stability > 0 and not stability >= least_stability:
        return Traced(stability, None)
    crossings = [_crossings(values, resampling, knots.start, threshold) for _, values in blocks]
    x = np.concatenate([found[0] + start for found, (start, _) in zip(crossings, blocks, strict=True)] or [_NONE])
    top = np.concatenate([found[1] for found in crossings] or [_NONE])
    stop = np.concatenate([found[2] for found in crossings] or [_NONE])
    return Traced(stability, Runs.of_columns(x, top, stop, resampling.photo_hw))


_NONE = np.zeros(0, np.int64)


def _area(values: npt.NDArray[np.float32], resampling: Resampling, first_knot: int, threshold: float) -> int:
    _, top, stop = _crossings(values, resampling, first_knot, threshold)
    return int((stop - top).sum())


def _crossings(
    values: npt.NDArray[np.float32], resampling: Resampling, first_knot: int, threshold: float
) -> tuple[Ints, Ints, Ints]:
    """Where columns rise above a threshold and fall below it again.

    Args:
        values: (columns, knots + 1) with the guard.
        resampling: says which row of the photo follows on a point between knots.
        first_knot: of `values`.
        threshold: pixels are inside above it.

    Returns:
        Column (of `values`), first row and one past the last row of each run, (R,) each; rows of the photo.
    """
    width = values.shape[1]
    flat = values.ravel()
    inside = flat > threshold
    changes = np.flatnonzero(inside[1:] != inside[:-1])  # between a place and the next
    if len(flat) and inside[0]:
        changes = np.concatenate([[-1], changes])  # the last place is a guard, too
    # A guard ends each column's last run, so they alternate: rise, fall, rise, fall.
    column, after = np.divmod(changes + 1, width)
    before_value, after_value = flat[changes], flat[changes + 1]
    fraction = (threshold - before_value) / (after_value - before_value)
    rows = resampling.first_row_after(after - 1 + first_knot, fraction)
    top, stop = rows[0::2], rows[1::2]
    some = stop > top
    return column[0::2][some], top[some], stop[some]


def _extent(used: torch.Tensor) -> list[tuple[int, int]]:
    """(K, n) bool to the first True and one past the last of each row; (0, 0) where there is none."""
    flags = used.numpy()
    first, last = flags.argmax(axis=1), flags.shape[1] - flags[:, ::-1].argmax(axis=1)
    some = flags.any(axis=1)
    return list(zip((first * some).tolist(), (last * some).tolist(), strict=True))
