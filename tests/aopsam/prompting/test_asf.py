"""Adaptive Sampling and Filtering against plain, slow versions of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.feature import peak_local_max
from torch.nn import functional

from aopsam.prompting.asf import (
    AdaptiveFilter,
    adaptive_sampling,
    component_peaks,
    cover_count,
    elimination_threshold,
)


def _map(*peaks: tuple[int, int, float]) -> np.ndarray:
    rows, columns = np.mgrid[:40, :60]
    return np.max([v * np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / 18) for r, c, v in peaks], axis=0)


def test_sampling_finds_the_peaks_by_falling_confidence_as_xy() -> None:
    peaks, values = adaptive_sampling(_map((10, 12, 0.7), (30, 45, 1.0)), smoothing_sigma=1.0, threshold=0.2)
    assert peaks.tolist() == [[45, 30], [12, 10]]
    assert values[0] > values[1] > 0.2


def test_sampling_agrees_with_scikit_image_away_from_the_border() -> None:
    confidence = np.random.default_rng(3).random((50, 70))
    peaks, _ = adaptive_sampling(confidence, smoothing_sigma=0.0, spacing=4, threshold=0.5)
    theirs = peak_local_max(confidence, min_distance=4, threshold_abs=0.5, exclude_border=False)
    assert {(int(x), int(y)) for x, y in peaks} == {(int(c), int(r)) for r, c in theirs}


def test_peaks_at_the_border_stay_and_the_threshold_is_absolute() -> None:
    peaks, _ = adaptive_sampling(_map((0, 0, 1.0), (20, 30, 0.1)), smoothing_sigma=1.0, threshold=0.2)
    assert peaks.tolist() == [[0, 0]]


def test_a_plateau_gives_one_peak() -> None:
    confidence = np.zeros((20, 20))
    confidence[8:11, 8:11] = 1.0
    peaks, _ = adaptive_sampling(confidence, smoothing_sigma=0.0, spacing=6, threshold=0.2)
    assert len(peaks) == 1


def test_nothing_above_the_threshold_gives_nothing() -> None:
    for sample in (adaptive_sampling, component_peaks):
        peaks, values = sample(np.zeros((8, 8)), threshold=0.2)
        assert peaks.shape == (0, 2)
        assert values.shape == (0,)


def test_without_sampling_each_component_gives_its_peak() -> None:
    confidence = np.zeros((10, 10))
    confidence[1, 1:6] = [0.3, 0.5, 0.9, 0.8, 0.4]  # one component, two lumps in it would be two peaks of sampling
    confidence[7, 7] = 0.6
    peaks, values = component_peaks(confidence, threshold=0.2)
    assert peaks.tolist() == [[3, 1], [7, 7]]
    assert values == pytest.approx([0.9, 0.6])


def _similarity_by_the_equations(features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Eq. 1 and 2 as written: one map a mask, then their mean."""
    maps = []
    for mask in masks:
        mean = torch.stack([(channel * mask).sum() / mask.sum() for channel in features])
        mean = mean / mean.norm()
        normalised = features / features.norm(dim=0, keepdim=True)
        maps.append((normalised * mean[:, None, None]).sum(0))
    return torch.stack(maps).mean(0)


def test_similarity_equals_the_papers_equations() -> None:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(16, 6, 9, generator=generator)
    masks = (torch.rand(5, 6, 9, generator=generator) > 0.6).float()
    seen = AdaptiveFilter(features)
    seen.add(masks[:2])
    seen.add(masks[2:])
    reference = functional.interpolate(
        _similarity_by_the_equations(features, masks)[None, None], scale_factor=4, mode="bilinear"
    )
    points = torch.tensor([[0.5 / 36, 0.5 / 24], [20.5 / 36, 9.5 / 24], [35.5 / 36, 23.5 / 24]])
    expected = reference[0, 0][[0, 9, 23], [0, 20, 35]]
    assert torch.allclose(seen.similarity(points), expected, atol=1e-6)


def test_nothing_is_similar_before_a_mask_was_kept() -> None:
    seen = AdaptiveFilter(torch.ones(4, 3, 3))
    seen.add(torch.zeros(2, 3, 3))  # empty masks say nothing
    assert seen.similarity(torch.tensor([[0.5, 0.5]])) is None


def test_the_rules_of_elimination() -> None:
    iou, similarity = torch.tensor([0.8, 0.6]), torch.tensor([0.5, 1.0])
    assert elimination_threshold(iou, similarity, "equation", 1.3) == pytest.approx(0.5)
    assert elimination_threshold(iou, similarity, "scaled", 1.3) == pytest.approx(0.65)
    assert elimination_threshold(iou, similarity, "relative", 1.3) == pytest.approx(0.65 * 0.8 / float(iou.mean()))
    assert elimination_threshold(iou / 2, similarity, "relative", 1.3) == pytest.approx(0.65 * 0.8 / float(iou.mean()))


def test_cover_counts_masks_that_a_point_lies_in_and_looks_like() -> None:
    features = torch.zeros(2, 4, 4)
    features[0, :, :2], features[1, :, 2:] = 1.0, 1.0
    masks = torch.zeros(3, 4, 4)
    masks[0, :, :2], masks[1, :2, :2], masks[2, :, 2:] = 1.0, 0.5, 1.0
    points = torch.tensor([[0.125, 0.125], [0.125, 0.875], [0.875, 0.5]])
    inside = torch.tensor([[True, True, True], [True, False, False], [False, True, False]])
    # The last point lies in the first mask alone, and looks otherwise; the second lies in a mask of the other kind.
    assert cover_count(features, masks, points, inside, 0.8).tolist() == [2, 1, 0]
    assert cover_count(features, masks[:0], points, inside[:0], 0.8).tolist() == [0, 0, 0]


def test_cover_counts_as_one_mask_and_point_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 5, 7, generator=generator)
    masks, points = torch.rand(4, 5, 7, generator=generator), torch.rand(9, 2, generator=generator)
    inside = torch.rand(4, 9, generator=generator) > 0.4
    expected = []
    for number, (x, y) in enumerate(points.tolist()):
        column, row = min(max(x * 7 - 0.5, 0), 6), min(max(y * 5 - 0.5, 0), 4)
        left, upper = min(int(column), 5), min(int(row), 3)
        right, lower = column - left, row - upper
        unit = features / features.norm(dim=0)
        here = (unit[:, upper, left] * (1 - right) + unit[:, upper, left + 1] * right) * (1 - lower)
        here = here + (unit[:, upper + 1, left] * (1 - right) + unit[:, upper + 1, left + 1] * right) * lower
        count = 0
        for mask, is_inside in zip(masks, inside[:, number].tolist(), strict=True):
            mean = (features * mask).sum((1, 2)) / mask.sum()
            count += is_inside and float(torch.cosine_similarity(mean, here, dim=0)) > 0.1
        expected.append(count)
    assert cover_count(features, masks, points, inside, 0.1).tolist() == expected
    assert len(set(expected)) > 2
