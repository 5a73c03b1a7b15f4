"""Values by which points are sampled from a confidence map; they are stored with a predictor's weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Values of Adaptive Sampling (Chen et al. 2025, AoP-SAM); the defaults are the paper's.

    A predictor trained with mean squared error outputs the *expected* target, whose peaks depend on kernel and data:
    the threshold is therefore stored with the weights for which it was chosen.
    """

    threshold: float = 0.2
    """Least value of a peak of the smoothed map that becomes a prompt."""
    smoothing_sigma: float = 2.0
    """Deviation of the Gaussian over the map, pixels of the map."""
    spacing: int = 6
    """Least distance between two peaks, pixels of the map."""
