"""Correlation of two samples, such as the predicted and the true IoU of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def pearson(x: ArrayLike, y: ArrayLike) -> float | None:
    """Compute the linear correlation of two samples (N,); None below three pairs or where one of them is constant.

    Raises:
        ValueError: the samples differ in length.
    """
    a, b = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    if len(a) != len(b):
        raise ValueError(f"samples of {len(a)} and {len(b)} values cannot be correlated")
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Compute the correlation of the ranks of two samples (N,), ties at their mean rank; None as for `pearson`.

    Raises:
        ValueError: the samples differ in length.
    """
    return pearson(rankdata(x), rankdata(y))
