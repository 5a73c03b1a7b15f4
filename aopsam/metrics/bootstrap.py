"""Means over photos or masks with bootstrap intervals, and paired differences between two methods.

Photos are resampled, not masks: masks of one photo are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Estimate:
    """A mean and its percentile interval."""

    mean: float
    low: float
    high: float


def weighted_mean(values: ArrayLike, weights: ArrayLike | None = None) -> float | None:
    """Compute the mean over N photos; None where nothing is defined. Arguments and errors as for `mean_interval`."""
    sample = _Sample(values, weights)
    mean = float(sample.mean(np.arange(sample.size)))
    return None if np.isnan(mean) else mean


def mean_interval(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate | None:
    """Compute the weighted mean over N photos with a percentile bootstrap interval; None where nothing is defined.

    Args:
        values: (N,) one a photo; NaN where the metric is undefined for it, which leaves that photo out.
        weights: (N,) at least 0, for example the photo's masks, which makes it the mean over masks; default 1.
        resamples: how many times N photos are drawn with replacement.
        level: probability that the interval covers.
        seed: seed of the draws; the same seed and N draw the same photos.

    Raises:
        ValueError: lengths differ, or the weight of a defined value is negative or NaN.
    """
    sample = _Sample(values, weights)
    draws = _draws(sample.size, resamples, seed)
    return _estimate(sample.mean(np.arange(sample.size)), sample.mean(draws), level)


def paired_difference(
    values: ArrayLike,
    reference: ArrayLike,
    weights: ArrayLike | None = None,
    reference_weights: ArrayLike | None = None,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate | None:
    """Compute the mean of `values` less that of `reference` on the same N photos, with a paired bootstrap interval.

    Every resample draws the same photos for both. Arguments and errors as for `mean_interval`.
    """
    ours, theirs = _Sample(values, weights), _Sample(reference, reference_weights)
    if ours.size != theirs.size:
        raise ValueError(f"paired samples need the same photos, got {ours.size} and {theirs.size}")
    everything, draws = np.arange(ours.size), _draws(ours.size, resamples, seed)
    return _estimate(ours.mean(everything) - theirs.mean(everything), ours.mean(draws) - theirs.mean(draws), level)


def resampled(
    statistic: Callable[[NDArray[np.integer]], float], size: int, *, resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Compute a statistic that is no mean on each draw of N photos with replacement, (resamples,).

    The same seed and N draw the same photos, so two methods' values differ by pairs.

    Args:
        statistic: function of the counts (N,) of each photo in a draw.
        size: N.
        resamples: number of draws.
        seed: seed of the draws.
    """
    draws = _draws(size, resamples, seed)
    return np.array([statistic(np.bincount(draw, minlength=size)) for draw in draws], np.float64)


def spread(value: float, drawn: NDArray[np.float64], level: float = 0.95) -> Estimate | None:
    """Return a value with the percentile interval of its values from `resampled`; None where the value is NaN."""
    return _estimate(np.asarray(value), drawn, level)


class _Sample:
    """Values and weights, undefined photos at weight 0."""

    def __init__(self, values: ArrayLike, weights: ArrayLike | None) -> None:
        raw = np.asarray(values, dtype=np.float64)
        heavy = np.ones_like(raw) if weights is None else np.asarray(weights, dtype=np.float64)
        if raw.ndim != 1 or raw.shape != heavy.shape:
            raise ValueError(f"expected one value and one weight a photo, got {raw.shape} and {heavy.shape}")
        defined = ~np.isnan(raw)
        if not bool((heavy[defined] >= 0).all()):
            raise ValueError("weights must be numbers of at least 0")
        self.size = len(raw)
        self.weights = np.where(defined, heavy, 0.0)
        self.products = np.where(defined, raw, 0.0) * self.weights

    def mean(self, photos: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute the mean over the last axis of photo indices; NaN where no photo of a row is defined."""
        total = self.weights[photos].sum(axis=-1)
        return np.where(total > 0, self.products[photos].sum(axis=-1) / np.where(total > 0, total, 1), np.nan)


def _draws(size: int, resamples: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, size, (resamples, size)) if size else np.zeros((0, 0), np.int64)


def _estimate(mean: NDArray[np.float64], resampled: NDArray[np.float64], level: float) -> Estimate | None:
    if np.isnan(mean):
        return None
    tail = (1 - level) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    return Estimate(float(mean), float(low), float(high))
