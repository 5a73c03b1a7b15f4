"""Correlations against SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aopsam.metrics import pearson, spearman


def test_equal_scipy_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.random((2, 40)), rng.integers(0, 5, (2, 40))):
        assert pearson(*values) == pytest.approx(stats.pearsonr(*values).statistic)
        assert spearman(*values) == pytest.approx(stats.spearmanr(*values).statistic)


def test_a_monotone_curve_has_rank_correlation_one() -> None:
    x = np.linspace(0, 3, 10)
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert spearman(x, -np.exp(x)) == pytest.approx(-1)
    assert pearson(x, np.exp(x)) < 1


def test_undefined_for_few_or_constant_values() -> None:
    for correlation in (pearson, spearman):
        assert correlation([], []) is None
        assert correlation([1, 2], [1, 2]) is None
        assert correlation([1, 1, 1], [1, 2, 3]) is None


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        pearson([1, 2, 3], [1, 2])
