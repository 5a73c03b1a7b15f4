"""Choose photos by stratum and embedding: equal quotas, each photo the farthest from those chosen before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aopsam.curation.k_center import k_center, squared_distances
from aopsam.curation.strata import water_fill


@dataclass(frozen=True)
class Choice:
    """Order and distance of N photos in a choice.

    Attributes:
        order: (N,) int, 0 for the first chosen; -1 where not chosen.
        distance: (N,) float32, in embedding space: from a chosen photo to the nearest one chosen before it, infinite
            for the first; from any other photo to the nearest chosen one.
    """

    order: NDArray[np.int64]
    distance: NDArray[np.float32]


def choose(embeddings: NDArray[np.floating], bins: NDArray[np.int64], count: int, seed: int) -> Choice:
    """Choose photos by k-center within each stratum, small strata first; centres of earlier strata count as chosen.

    The seed shuffles the photos, which decides the first greedy choice, the core-sets and the order of ties; everything
    else depends only on the photos.

    Args:
        embeddings: (N, D) unit vectors.
        bins: (N, S) bins from `strata`; equal rows are one stratum.
        count: photos to choose, at most N.
        seed: seed of the shuffle.

    Raises:
        ValueError: `count` is above N.
    """
    shuffled = np.random.default_rng(seed).permutation(len(embeddings))
    vectors = embeddings[shuffled]
    _, inverse, sizes = np.unique(bins[shuffled], axis=0, return_inverse=True, return_counts=True)
    stratum = inverse.reshape(-1)
    quotas = water_fill(sizes, count)
    order = np.full(len(vectors), -1, np.int64)
    distance = np.full(len(vectors), np.inf, np.float32)
    covered = np.full(len(vectors), np.inf, np.float32)
    begin = 0
    for number in np.argsort(sizes, kind="stable"):
        rows = np.flatnonzero(stratum == number)
        within, squared = k_center(vectors[rows], int(quotas[number]), covered[rows])
        chosen = rows[within]
        order[chosen] = begin + np.arange(len(chosen))
        distance[chosen] = np.sqrt(squared)
        np.minimum(covered, squared_distances(vectors, vectors[chosen]), out=covered)
        begin += len(chosen)
    distance = np.where(order < 0, np.sqrt(covered), distance)
    back = np.argsort(shuffled)
    return Choice(order[back], distance[back])
