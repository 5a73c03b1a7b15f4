"""A mask as its runs of pixels: what a run-length code is made of, small and exact, whatever the photo's size."""

from __future__ import annotations

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
        """Those of a mask (H, W) bool."""
        guarded = np.zeros((mask.shape[1], mask.shape[0] + 1), np.bool_)  # a False ends each column's last run
        guarded[:, :-1] = mask.T
        changes = np.flatnonzero(np.diff(guarded.ravel(), prepend=False))
        column, row = np.divmod(changes, guarded.shape[1])
        return cls.of_columns(column[0::2], row[0::2], row[1::2], (mask.shape[0], mask.shape[1]))

    @property
    def area(self) -> int:
        """Pixels."""
        return int((self.stops - self.starts).sum())

    def placed(self, left: int, top: int, hw: tuple[int, int]) -> Runs:
        """The same mask at an offset in a larger frame of `hw` rows and columns."""
        if hw == self.hw:
            return self
        height = self.hw[0]
        first, last = self.starts // height, (self.stops - 1) // height
        pieces = last - first + 1  # a run that goes on into the next column is two in a higher frame
        run = np.repeat(np.arange(len(first)), pieces)
        column = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        begin = np.maximum(self.starts[run], column * height) - column * height
        end = np.minimum(self.stops[run], (column + 1) * height) - column * height
        return Runs.of_columns(column + left, begin + top, end + top, hw)
