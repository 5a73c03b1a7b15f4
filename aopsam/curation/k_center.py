"""Choose centres among vectors so that the largest distance of any vector to its nearest centre is small: k-center.

Farthest first (Gonzalez 1985) reaches at most twice the smallest possible distance. More rows than a block are reduced
to composable core-sets (Malkomes et al. 2015, "Fast Distributed k-Center Clustering with Outliers on Massive Data", the
algorithm without outliers): farthest first within each block, then among the rows chosen in all blocks, at most four
times the smallest possible distance. Only one block and the chosen rows are held in single precision.

Rows are unit vectors; distances are Euclidean, √(2 - 2 cos), and kept squared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 16384
"""Rows reduced to one core-set: 16 MiB of 256 dimensions in single precision."""

Vectors = NDArray[np.floating]


def farthest_first(
    vectors: Vectors, count: int, covered: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Choose `count` rows, each the farthest from those before it; the first one of ties.

    Args:
        vectors: (N, D) unit vectors.
        count: rows to choose, at most N.
        covered: (N,) squared distances to centres chosen before; infinite where there are none.

    Returns:
        The rows in the order chosen, and their squared distance when chosen, both (count,).
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    nearest = covered.astype(np.float32)
    chosen, distances = np.zeros(count, np.int64), np.zeros(count, np.float32)
    for place in range(count):
        row = int(nearest.argmax())
        chosen[place], distances[place] = row, nearest[row]
        np.minimum(nearest, _squared(vectors @ vectors[row]), out=nearest)
        nearest[row] = -1  # excludes it for good: distances are not negative, and the rows left may be copies of it
    return chosen, distances


def k_center(
    vectors: Vectors, count: int, covered: NDArray[np.float32], block: int = BLOCK
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Choose rows as `farthest_first` does, by core-sets of blocks where there are more rows than `block`."""
    if len(vectors) <= block:
        return farthest_first(vectors, count, covered)
    kept = []
    for start in range(0, len(vectors), block):
        part = slice(start, start + block)
        within, _ = farthest_first(vectors[part], min(count, len(vectors[part])), covered[part])
        kept.append(np.sort(within) + start)
    core = np.concatenate(kept)
    chosen, distances = farthest_first(vectors[core], count, covered[core])
    return core[chosen], distances


def squared_distances(vectors: Vectors, centres: Vectors, block: int = 4096) -> NDArray[np.float32]:
    """Return the squared distance (N,) of each row (N, D) to the nearest centre (K, D); infinite without centres."""
    nearest = np.full(len(vectors), np.inf, np.float32)
    for first in range(0, len(centres), block):
        some = np.asarray(centres[first : first + block], np.float32).T
        for start in range(0, len(vectors), block):
            part = slice(start, start + block)
            closest = (np.asarray(vectors[part], np.float32) @ some).max(axis=1)
            np.minimum(nearest[part], _squared(closest), out=nearest[part])
    return nearest


def _squared(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(2 - 2 * cosines, 0)
