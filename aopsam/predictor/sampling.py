"""How a confidence map is turned into points: the values that belong to a predictor's weights."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Adaptive Sampling (Chen et al. 2025, AoP-SAM): the paper's values unless the weights' card says otherwise.

    A predictor trained with mean squared error answers with the *expected* target, whose peaks depend on kernel and
    data: the threshold is therefore stored with the weights that it was measured for.
    """

    threshold: float = 0.2
    """A peak of the smoothed map below this is no prompt."""
    smoothing_sigma: float = 2.0
    """Deviation of the Gaussian over the map, pixels of the map."""
    spacing: int = 6
    """Least distance between two peaks, pixels of the map."""
