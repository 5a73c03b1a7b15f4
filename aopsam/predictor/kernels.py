"""Kernels of prompt maps by name, and how they are combined; without torch, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Combine = Literal["max", "sum"]


@dataclass(frozen=True)
class TargetPreset:
    """Kernel of a prompt map, in pixels of the frame.

    The paper smooths with a uniform and a Gaussian kernel and gives no sizes.
    """

    box: int
    """Side k of the uniform kernel; odd."""
    sigma: float
    """Deviation of the Gaussian kernel."""
    sigma_per_scale: float = 0.0
    """Deviation as a share of √area of the prompt's mask, at least `sigma`; 0 for `sigma` alone. Not in the paper."""
    sigma_largest: float = 12.0
    """Largest deviation where `sigma_per_scale` is used."""

    def sigmas(self, areas: np.ndarray) -> np.ndarray | None:
        """Return the deviation of each prompt from its mask's area (N,) in frame pixels²; None if all have `sigma`."""
        if self.sigma_per_scale <= 0:
            return None
        return np.clip(self.sigma_per_scale * np.sqrt(areas), self.sigma, self.sigma_largest)


PRESETS: dict[str, TargetPreset] = {
    "sharp": TargetPreset(box=3, sigma=1.0),
    "medium": TargetPreset(box=3, sigma=2.0),
    "wide": TargetPreset(box=5, sigma=4.0),
    "scaled": TargetPreset(box=3, sigma=1.0, sigma_per_scale=0.15),
}
"""Kernels by name."""
