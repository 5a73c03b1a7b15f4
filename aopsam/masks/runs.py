"""A mask as runs of pixels, as in a run-length code: small and exact, whatever the photo's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """A mask as runs of pixels in column order, as COCO's code has them.

    Attributes:
        starts: (R,) int64, flat indices x · H + y of the first pixels of runs, rising.
        stops: (R,) int64, one past the last pixels; each below the next start.
        hw: rows H and columns of the mask.
        box_xyxy_px: left, top, right, bottom: indices of the first and last column and row; all 0 without a pixel.
    """

    starts: Ints
    stops: Ints
    hw: tuple[int, int]
    box_xyxy_px: tuple[int, int, int, int]

    @classmethod
    def of_columns(cls, column: Ints, top: Ints, stop: Ints, hw: tuple[int, int]) -> Runs:
        """Join runs of columns: column, first row and one past the last row of each, (R,) int64, in order."""
        if not len(column):
            return cls(column, column, hw, (0, 0, 0, 0))
        starts, stops = column * hw[0] + top, column * hw[0] + stop
        apart = starts[1:] != stops[:-1]
        return cls(
            starts[np.concatenate([[True], apart])],
            stops[np.concatenate([apart, [True]])],
            hw,
            (int(column[0]), int(top.min()), int(column[-1]), int(stop.max()) - 1),
        )

    @classmethod
    def of_mask(cls, mask: npt.NDArray[np.bool_]) -> Runs:
        """Find the runs of a mask (H, W) bool."""
        guarded = np.zeros((mask.shape[1], mask.shape[0] + 1), np.bool_)  # a False ends each column's last run
        guarded[:, :-1] = mask.T
        changes = np.flatnonzero(np.diff(guarded.ravel(), prepend=False))
        column, row = np.divmod(changes, guarded.shape[1])
        return cls.of_columns(column[0::2], row[0::2], row[1::2], (mask.shape[0], mask.shape[1]))

    @classmethod
    def of_flat(cls, starts: Ints, stops: Ints, hw: tuple[int, int]) -> Runs:
        """Join runs given by flat indices, in order; one may begin where another ends."""
        return cls.of_columns(*cls(starts, stops, hw, (0, 0, 0, 0))._by_column(), hw)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int((self.stops - self.starts).sum())

    def placed(self, left: int, top: int, hw: tuple[int, int]) -> Runs:
        """Return the mask at an offset in a larger frame of `hw` rows and columns."""
        if hw == self.hw:
            return self
        column, begin, end = self._by_column()  # a run that goes on into the next column is two in a higher frame
        return Runs.of_columns(column + left, begin + top, end + top, hw)

    def within(self, left: int, top: int, right: int, bottom: int) -> Runs:
        """Cut out a rectangle of the frame, `right` and `bottom` excluded, as a mask of the rectangle's size."""
        height = self.hw[0]
        part = slice(
            int(np.searchsorted(self.stops, left * height, side="right")),
            int(np.searchsorted(self.starts, right * height)),
        )
        column, begin, end = Runs(self.starts[part], self.stops[part], self.hw, self.box_xyxy_px)._by_column()
        begin, end = np.maximum(begin, top), np.minimum(end, bottom)
        some = (begin < end) & (column >= left) & (column < right)
        return Runs.of_columns(column[some] - left, begin[some] - top, end[some] - top, (bottom - top, right - left))

    def _by_column(self) -> tuple[Ints, Ints, Ints]:
        """Return column, first row and one past the last row of each piece that a run has in a column."""
        height = self.hw[0]
        first, last = self.starts // height, (self.stops - 1) // height
        pieces = last - first + 1
        run = np.repeat(np.arange(len(first)), pieces)
        column = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        begin = np.maximum(self.starts[run], column * height) - column * height
        end = np.minimum(self.stops[run], (column + 1) * height) - column * height
        return column, begin, end


def union(masks: Sequence[Runs]) -> Runs:
    """Return the union of N ≥ 1 masks of one frame."""
    starts, stops = (np.concatenate(ends) for ends in zip(*((m.starts, m.stops) for m in masks), strict=True))
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], np.maximum.accumulate(stops[order])
    apart = starts[1:] > stops[:-1]
    first, last = np.concatenate([[True], apart]), np.concatenate([apart, [True]])
    boxes = np.array([mask.box_xyxy_px for mask in masks if len(mask.starts)]).reshape(-1, 4)
    if not len(boxes):
        return masks[0]
    x0, y0, x1, y1 = (int(side) for side in (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)))
    return Runs(starts[first], stops[last], masks[0].hw, (x0, y0, x1, y1))
