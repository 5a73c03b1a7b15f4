"""Trace the runs of masks in low-resolution logits, where they cross a threshold, without making full-size masks.

SAM enlarges every candidate to the photo's size, three times over (logits, two thresholds of the stability score),
before it decides whether to keep it. But interpolated logits lie between those that they come from: a mask ends where
its low-resolution logits do, and only columns and rows around it are needed. There, columns are computed a block at a
time; down a column a mask begins and ends where the logits cross the threshold, and those few crossings are all that
areas, boxes, the stability score and the run-length code need. Memory follows from a block, not from the photo.

`tests/aopsam/masks/test_trace.py` compares with masks made at full size, as SAM makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from aopsam._side_by_side import side_by_side
from aopsam.masks import kernels
from aopsam.masks.resampling import Floats, Resampling
from aopsam.masks.runs import Ints, Runs

_LOGITS_AT_ONCE = 2**17
"""Logits of a block of columns: half a MiB."""
_MASKS_AT_ONCE = 32
"""Masks that a thread traces before it takes others: some ten milliseconds."""
_FAR_BELOW = -1e9
"""Logit of the guard below the last row: it ends every run."""


@dataclass(frozen=True)
class Traced:
    """Stability and runs of one candidate mask.

    Attributes:
        stability: |logit > threshold + offset| / |logit > threshold - offset|; NaN where the latter is nothing.
        runs: runs of logit > threshold; None where the stability was too low.
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
    """Compute the stability and the runs of K masks.

    Args:
        low_res_logits: (K, r, c) float32, on the CPU.
        resampling: resampling of these logits to the photo.
        threshold: where logits are binarised.
        offset: offset of the stability score.
        least_stability: masks with a lower one get no runs; 0 lets all pass, even NaN.
    """
    limits = np.array([threshold - offset, threshold, threshold + offset], np.float32)
    logits = np.ascontiguousarray(low_res_logits.numpy())
    above = logits > limits[0]
    rows, columns = _extent(np.logical_or.reduce(above, axis=2)), _extent(np.logical_or.reduce(above, axis=1))

    def some(start: int) -> list[Traced]:
        part = slice(start, start + _MASKS_AT_ONCE)
        return [
            _trace(low, resampling, slice(*row), slice(*column), limits, least_stability)
            for low, row, column in zip(logits[part], rows[part], columns[part], strict=True)
        ]

    # NumPy's passes are too short to run side by side.
    workers = 1 if kernels() is None else torch.get_num_threads()
    return list(chain.from_iterable(side_by_side(some, range(0, len(logits), _MASKS_AT_ONCE), workers)))


def _trace(low: Floats, to: Resampling, rows: slice, columns: slice, limits: Floats, least: float) -> Traced:
    """Trace one mask, (r, c), of which these rows and columns may be above the lowest limit."""
    knots, places = to.knots_of(rows), to.columns.touched_by(columns)
    if (compiled := kernels()) is not None:
        axes = to.knots.first, to.knots.weights, to.columns.first, to.columns.weights
        ends = (knots.start, knots.stop), (places.start, places.stop)
        inner, outer, count, starts, stops, box = compiled.trace(
            low, *axes, *ends, to.enlarged, to.rows_a_knot, to.photo_hw[0], limits
        )
        found = Traced(inner / outer if outer else float("nan"), None)
        if least > 0 and not found.stability >= least:
            return found
        return replace(found, runs=Runs(starts[:count].copy(), stops[:count].copy(), to.photo_hw, box))
    region = _Region(low, to, knots, places)
    blocks = list(region.blocks())
    inner, outer = (sum(region.area(values, limit) for _, values in blocks) for limit in limits[[2, 0]])
    found = Traced(inner / outer if outer else float("nan"), None)
    if least > 0 and not found.stability >= least:
        return found
    runs = [np.zeros((3, 0), np.int64)]
    for start, values in blocks:
        column, top, stop = region.crossings(values, limits[1])
        runs.append(np.stack([column + start, top, stop]))
    column, top, stop = np.concatenate(runs, axis=1)
    return replace(found, runs=Runs.of_columns(column, top, stop, to.photo_hw))


class _Region:
    """The columns and knots where a mask can be: those to which its low-resolution logits contribute."""

    def __init__(self, low: Floats, resampling: Resampling, knots: slice, columns: slice) -> None:
        """Resample the logits (r, c) down the knots."""
        self._resampling, self._first_knot, self._columns = resampling, knots.start, columns
        # Low-resolution columns down the knots. The guard below stays what it is: weights of a column add up to 1.
        self._down = np.full((low.shape[1], knots.stop - knots.start + 1), _FAR_BELOW, np.float32)
        self._down[:, :-1] = resampling.knots.resample(low, knots).T

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """Yield the photo's columns, some at a time: the first one, and (columns, knots + guard) logits."""
        step = max(1, _LOGITS_AT_ONCE // self._down.shape[1])
        for start in range(self._columns.start, self._columns.stop, step):
            block = slice(start, min(start + step, self._columns.stop))
            yield start, self._resampling.columns.resample(self._down, block)

    def area(self, values: Floats, threshold: np.float32) -> int:
        """Count the pixels above a threshold in the columns of a block."""
        _, top, stop = self.crossings(values, threshold)
        return int((stop - top).sum())

    def crossings(self, values: Floats, threshold: np.float32) -> tuple[Ints, Ints, Ints]:
        """Find where the columns of a block rise above a threshold and fall below it again.

        Returns:
            Column (of the block), first row and one past the last row of each run, (R,) each; rows of the photo.
        """
        flat = values.ravel()
        inside = flat > threshold
        changes = np.flatnonzero(inside[1:] != inside[:-1])  # between a place and the next
        if inside[0]:
            changes = np.concatenate([[-1], changes])  # the last place is a guard, too
        # A guard ends each column's last run, so they alternate: rise, fall, rise, fall.
        column, after = np.divmod(changes + 1, values.shape[1])
        before_value, after_value = flat[changes], flat[changes + 1]
        fraction = (threshold - before_value) / (after_value - before_value)
        rows = self._resampling.first_row_after(after - 1 + self._first_knot, fraction)
        top, stop = rows[0::2], rows[1::2]
        some = stop > top
        return column[0::2][some], top[some], stop[some]


def _extent(used: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first True and one past the last of each row of (K, n) bool; (0, 0) where there is none."""
    some = np.logical_or.reduce(used, axis=1)
    first, last = used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)
    return list(zip((first * some).tolist(), (last * some).tolist(), strict=True))
