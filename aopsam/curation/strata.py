"""Divide a corpus into strata by statistics of its photos, and compute how many photos each stratum gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 3
"""Number of quantile bins of each statistic."""


def strata(statistics: Sequence[ArrayLike]) -> NDArray[np.int64]:
    """Return the bins of N photos in S statistics, (N, S) from 0; about a third of the photos in each bin.

    Photos of equal value share a bin, so the bins of a statistic with few values may differ much in size.
    """
    columns = [np.asarray(values, np.float64) for values in statistics]
    inner = np.arange(1, BINS) / BINS
    return np.stack([np.searchsorted(np.quantile(v, inner), v, side="left") for v in columns], axis=1)


def water_fill(sizes: ArrayLike, total: int) -> NDArray[np.int64]:
    """Compute equal quotas that add up to `total`; a stratum with fewer photos gives all of them.

    A remainder goes to the largest strata, one photo each, the first of ties first.

    Args:
        sizes: (K,) photos in each stratum.
        total: photos wanted, from 0 to the sum of the sizes.

    Raises:
        ValueError: `total` is out of range.
    """
    room = np.asarray(sizes, np.int64)
    if not 0 <= total <= room.sum():
        raise ValueError(f"{total} photos cannot come of strata that hold {int(room.sum())}")
    low, high = 0, int(room.max(initial=0))  # the highest level whose quotas stay within the total
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(room, level).sum() <= total else (low, level - 1)
    quotas = np.minimum(room, low)
    left = total - int(quotas.sum())
    with_room = np.flatnonzero(room > low)
    quotas[with_room[np.argsort(-room[with_room], kind="stable")][:left]] += 1
    return quotas
