"""Trace the runs of masks in low-resolution logits, where they cross a threshold, without making full-size masks.

SAM enlarges every candidate to the photo's size, three times over (logits, two thresholds of the stability score),
before it decides whether to keep it. But interpolated logits lie between those that they come from: a mask ends where
its low-resolution logits do, and only columns and rows around it are needed. There, columns are computed as one matrix
product, a block at a time; down a column a mask begins and ends where the logits cross the threshold, and those few
crossings are all that areas, boxes, the stability score and the run-length code need. Memory follows from a block, not
from the photo.

`tests/aopsam/masks/test_trace.py` compares with masks made at full size, as SAM makes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aopsam.masks import kernels
from aopsam.masks.resampling import Resampling
from aopsam.masks.runs import Ints, Runs

_LOGITS_AT_ONCE = 2**17
"""Logits of a block of columns: half a MiB."""
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
    lowest = threshold - abs(offset)
    above = (low_res_logits > lowest).numpy()
    rows, columns = _extent(np.logical_or.reduce(above, axis=2)), _extent(np.logical_or.reduce(above, axis=1))
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
    region = _Region(logits, low, resampling)
    if (compiled := kernels()) is not None:
        limits = np.float32(threshold), np.float32(offset), least_stability
        stability, kept, starts, stops, box = compiled.trace(*region.arguments(), *limits)
        return Traced(stability, Runs(starts, stops, resampling.photo_hw, box) if kept else None)
    blocks = list(region.blocks())
    inner, outer = (
        sum(region.area(values, limit) for _, values in blocks) for limit in (threshold + offset, threshold - offset)
    )
    stability = inner / outer if outer else float("nan")
    if least_stability > 0 and not stability >= least_stability:
        return Traced(stability, None)
    runs = [np.zeros((3, 0), np.int64)]
    for start, values in blocks:
        column, top, stop = region.crossings(values, threshold)
        runs.append(np.stack([column + start, top, stop]))
    column, top, stop = np.concatenate(runs, axis=1)
    return Traced(stability, Runs.of_columns(column, top, stop, resampling.photo_hw))


class _Region:
    """The columns and knots where a mask can be: those to which its low-resolution logits contribute."""

    def __init__(self, logits: torch.Tensor, low: tuple[slice, slice], resampling: Resampling) -> None:
        """Resample the logits (r, c) down the knots; `low` are the rows and columns of them that hold the mask."""
        self._resampling = resampling
        self._columns, knots = resampling.columns_of(low[1]), resampling.knots_of(low[0])
        self._first_knot = knots.start
        self._taps = resampling.taps_of_columns(self._columns)
        # Low-resolution columns down the knots. The guard below stays what it is: weights of a column add up to 1.
        self._down = torch.empty(self._taps.stop - self._taps.start, knots.stop - knots.start + 1, dtype=torch.float32)
        self._down[:, -1] = _FAR_BELOW
        self._down[:, :-1] = logits[:, self._taps].mT @ resampling.knots[knots].mT

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield the photo's columns, some at a time: the first one, and (columns, knots + guard) logits."""
        down, step = self._down.numpy(), max(1, _LOGITS_AT_ONCE // self._down.shape[1])
        for start in range(self._columns.start, self._columns.stop, step):
            columns = slice(start, min(start + step, self._columns.stop))
            first, weights = self._resampling.taps[columns] - self._taps.start, self._resampling.tap_weights[columns]
            values = weights[:, :1] * down[first]
            for tap in range(
                1, weights.shape[1]
            ):  # tap by tap, as compiled code adds them up: the same to the last bit
                values += weights[:, tap, None] * down[np.minimum(first + tap, len(down) - 1)]
            yield start, values

    def arguments(self) -> tuple[Any, ...]:
        """Return what `compiled.trace` takes before the limits."""
        columns, to = self._columns, self._resampling
        first, weights = to.taps[columns] - self._taps.start, to.tap_weights[columns]
        place = columns.start, self._first_knot, to.enlarged, to.rows_a_knot, len(to.knots), to.photo_hw[0]
        return (self._down.numpy(), first, weights, *place)

    def area(self, values: npt.NDArray[np.float32], threshold: float) -> int:
        """Count the pixels above a threshold in the columns of a block."""
        _, top, stop = self.crossings(values, threshold)
        return int((stop - top).sum())

    def crossings(self, values: npt.NDArray[np.float32], threshold: float) -> tuple[Ints, Ints, Ints]:
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
