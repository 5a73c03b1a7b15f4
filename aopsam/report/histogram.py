"""Histograms that grow value by value, so that a corpus of any size fits in a page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass
class Histogram:
    """Counts of values between edges."""

    edges: npt.NDArray[np.float64]
    """Edges of the bins, (B + 1,), rising."""
    counts: npt.NDArray[np.int64]
    """Counts of the bins, (B,)."""

    @classmethod
    def of_edges(cls, edges: npt.ArrayLike) -> Histogram:
        """Make an empty histogram."""
        array = np.asarray(edges, np.float64)
        return cls(array, np.zeros(len(array) - 1, np.int64))

    def add(self, values: npt.ArrayLike) -> None:
        """Count values; what lies beyond the outer edges counts in the outer bins, what is not finite not at all."""
        array = np.asarray(values, np.float64)
        array = array[np.isfinite(array)]
        places = np.searchsorted(self.edges, array, side="right") - 1
        self.counts += np.bincount(places.clip(0, len(self.counts) - 1), minlength=len(self.counts))

    @property
    def total(self) -> int:
        """Number of values counted."""
        return int(self.counts.sum())

    def median(self) -> float | None:
        """Return the lower edge of the (lower) median's bin: exact for whole numbers in bins of 1; None if empty."""
        if not self.total:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), (self.total + 1) // 2))
        return float(self.edges[place])

    def trimmed(self, max_bins: int) -> Histogram:
        """Return the histogram without empty bins at its ends, neighbours joined to leave at most `max_bins`."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return self
        first, last = int(filled[0]), int(filled[-1]) + 1
        width = -(-(last - first) // max_bins)
        first -= first % width
        starts = np.arange(first, last, width)
        ends = np.minimum(starts + width, len(self.counts))
        counts = np.array([self.counts[start:end].sum() for start, end in zip(starts, ends, strict=True)])
        return Histogram(self.edges[[*starts, ends[-1]]], counts)
