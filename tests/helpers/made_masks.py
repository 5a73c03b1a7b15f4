"""Made-up masks."""

from __future__ import annotations

import numpy as np


def blobs(count: int, seed: int) -> np.ndarray:
    """(N, 30, 40): discs of all sizes, many in each other."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:30, :40]
    centres, radii = rng.random((count, 2)) * [30, 40], rng.uniform(2, 14, count)
    return np.stack([np.hypot(y - cy, x - cx) < r for (cy, cx), r in zip(centres, radii, strict=True)])
