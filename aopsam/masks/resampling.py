"""Resample low-resolution masks to a photo's pixels: SAM's two bilinear resizes as a few weights for each axis."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aopsam.masks.runs import Ints

Floats = npt.NDArray[np.float32]


class Taps:
    """Samples that contribute to each of n places along an axis, and their weights.

    Attributes:
        first: (n,) int64, the first low-resolution row or column that contributes; it never falls.
        weights: (n, m) float32, weights of that one and those next to it.
    """

    def __init__(self, matrix: Floats) -> None:
        """Take the weights of all low-resolution rows or columns, (n, low)."""
        used = matrix != 0
        self.first = used.argmax(axis=1)
        self._last = used.shape[1] - 1 - used[:, ::-1].argmax(axis=1)
        every = self.first[:, None] + np.arange((self._last - self.first).max() + 1)
        inside = np.take_along_axis(matrix, every.clip(max=used.shape[1] - 1), axis=1)
        self.weights = np.where(every <= self._last[:, None], inside, np.float32(0))

    def touched_by(self, low: slice) -> slice:
        """Return the places to which some of the low-resolution rows or columns contribute."""
        return slice(int(np.searchsorted(self._last, low.start)), int(np.searchsorted(self.first, low.stop)))

    def resample(self, low: Floats, places: slice) -> Floats:
        """Return some places of (low, k) values, (places, k).

        Tap by tap, each sum rounded, as compiled code adds them up: the same to the last bit.
        """
        first, weights = self.first[places], self.weights[places]
        values = weights[:, :1] * low[first]
        for tap in range(1, weights.shape[1]):
            values += weights[:, tap, None] * low[np.minimum(first + tap, len(low) - 1)]
        return values


class Resampling:
    """`Sam.postprocess_masks`, from low-resolution logits to original pixels, separated into its two axes.

    It enlarges to the model's square, cuts the padding off, and resizes to the photo. Both steps are bilinear, so rows
    and columns separate: each axis has *taps*, the few low-resolution rows or columns that contribute to a place.

    Along the rows, what is computed are *knots*: the photo's own rows where there are no more of them than rows of the
    square; in a larger photo the square's rows, between which a photo's column is a straight line.

    Attributes:
        knots: taps of the knots.
        columns: taps of the photo's columns.
        enlarged: whether the photo has rows between knots.
        rows_a_knot: rows of the photo for a row of the square.
        photo_hw: rows and columns of the photo, pixels.
    """

    def __init__(
        self,
        low_hw: tuple[int, int],
        low_side: int,
        square: int,
        input_hw: tuple[int, int],
        photo_hw: tuple[int, int],
    ) -> None:
        """Set up the matrices.

        Args:
            low_hw: rows and columns of the low-resolution masks, which may be cut to what shows the photo.
            low_side: rows (and columns) that the whole square has at low resolution.
            square: side of the model's input.
            input_hw: rows and columns of the square that show the photo.
            photo_hw: rows and columns of the photo.
        """
        into_square = linear_weights(low_side, square)
        rows, columns = (into_square[:side, :low] for side, low in zip(input_hw, low_hw, strict=True))
        self.photo_hw = photo_hw
        self.columns = Taps(linear_weights(input_hw[1], photo_hw[1]) @ columns)
        self.enlarged = photo_hw[0] > input_hw[0]
        self.knots = Taps(rows if self.enlarged else linear_weights(input_hw[0], photo_hw[0]) @ rows)
        self.rows_a_knot = 1 / (input_hw[0] / photo_hw[0])

    def knots_of(self, low: slice) -> slice:
        """Return the knots to which some low-resolution rows contribute; where the photo has rows between knots, also
        the neighbouring knots: logits cross a threshold on the way there."""
        knots = self.knots.touched_by(low)
        if not self.enlarged:
            return knots
        return slice(max(knots.start - 1, 0), min(knots.stop + 1, len(self.knots.first)))

    def first_row_after(self, knot: Ints, fraction: Floats) -> Ints:
        """Return the first row of the photo beyond a point.

        Args:
            knot: (K,) the knot before the point, or -1 where that is the guard above all knots.
            fraction: (K,) how far the point is from there to the next knot, 0 to 1.
        """
        if not self.enlarged:
            return knot + 1
        # Row y of the photo lies at (y + ½) · ratio - ½ among the knots, held to the first and the last.
        row = ((knot + (fraction + 0.5)) * self.rows_a_knot + 0.5).astype(np.int64)
        if knot.min(initial=0) < 0:
            row[knot < 0] = 0
        if knot.max(initial=0) == len(self.knots.first) - 1:
            row[knot == len(self.knots.first) - 1] = self.photo_hw[0]
        return row


def linear_weights(size_in: int, size_out: int) -> Floats:
    """Return torch's bilinear resize (`align_corners=False`) along one axis as a (size_out, size_in) float32 matrix."""
    at = ((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5).clip(0, size_in - 1)
    below = at.astype(np.int64)
    above = np.minimum(below + 1, size_in - 1)
    weights = np.zeros((size_out, size_in), np.float32)
    place = np.arange(size_out)
    weights[place, above] = at - below
    weights[place, below] += 1 - (at - below)  # where both are the last, they add up
    return weights
