"""Rule `diverse` against a plain, slow version of it, and what it is for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from aopsam.prompting.diverse import REACH, TOLERANCE, diverse_order, with_centers


def test_centres_of_boxes_join_the_peaks_with_the_confidence_that_the_map_has_there() -> None:
    confidence = np.random.default_rng(0).random((10, 13))
    peaks, values = np.array([[3, 2], [12, 9]]), np.array([0.9, 0.8], np.float32)
    centers = np.array([[0.5, 0.25], [0.99, 0.01], [1.0, 1.0]])  # the last on the photo's corner
    xy, joined = with_centers(confidence, peaks, values, centers, 0.7)
    smooth = ndimage.gaussian_filter(confidence.astype(np.float32), 0.7)
    assert xy[:2].tolist() == peaks.tolist()
    assert xy[2:] + 0.5 == pytest.approx(centers * [13, 10])
    expected = [0.9, 0.8, smooth[2, 6], smooth[0, 12], smooth[9, 12]]
    assert joined == pytest.approx(np.array(expected, np.float32))


def _slowly(confidence: torch.Tensor, places: torch.Tensor, features: torch.Tensor, least: float) -> list[int]:
    """The definition, every pair anew."""
    count = len(confidence)

    def difference(one: int, other: int) -> float:
        return float(((features[one] - features[other]) ** 2).sum())

    mean = sum(difference(i, j) for i in range(count) for j in range(count)) / count**2
    chosen: list[int] = []
    while True:
        values = {}
        for place in set(range(count)) - set(chosen):
            values[place] = float(confidence[place])
            for other in chosen:
                distance = float(((places[place] - places[other]) ** 2).sum())
                alike = math.exp(-difference(place, other) / (TOLERANCE * mean))
                values[place] *= 1 - math.exp(-distance / (2 * REACH**2)) * alike
        if not values or max(values.values()) <= least:
            return chosen
        chosen.append(max(values, key=values.__getitem__))


def _photo(seed: int, count: int = 40) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(4, 8, generator=generator)[torch.arange(count) % 4]  # four kinds of place, with some noise
    features = functional.normalize(features + 0.2 * torch.randn(count, 8, generator=generator), dim=1)
    return torch.rand(count, generator=generator), torch.rand(count, 2, generator=generator), features


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_places_are_chosen_as_one_pair_at_a_time(seed: int) -> None:
    confidence, places, features = _photo(seed)
    expected = _slowly(confidence, places, features, least=0.1)
    chosen = diverse_order(confidence, places, features, most=40, least_value=0.1).tolist()
    assert chosen == expected
    assert 5 < len(chosen) < 40
    assert chosen != confidence.argsort(descending=True)[: len(chosen)].tolist()


def test_fewer_places_are_the_first_of_more() -> None:
    confidence, places, features = _photo(3)
    assert (
        diverse_order(confidence, places, features, most=7, least_value=0.0).tolist()
        == diverse_order(confidence, places, features, most=40, least_value=0.0).tolist()[:7]
    )


def test_what_looks_otherwise_and_what_lies_elsewhere_comes_before_a_repetition() -> None:
    cup, table = [1.0, 0.0], [0.0, 1.0]
    places = torch.tensor([[0.1, 0.1], [0.12, 0.1], [0.9, 0.1], [0.14, 0.1]])
    features = torch.tensor([cup, cup, cup, table])
    confidence = torch.tensor([0.9, 0.8, 0.5, 0.4])
    assert diverse_order(confidence, places, features, most=4, least_value=0.0).tolist() == [0, 2, 3, 1]
    assert diverse_order(confidence, places, features, most=4, least_value=0.1).tolist() == [0, 2, 3]


def test_no_confidence_no_place_and_an_embedding_without_contrast_leaves_distance_alone() -> None:
    confidence, places, features = _photo(4)
    assert len(diverse_order(0 * confidence, places, features, most=9, least_value=0.0)) == 0
    same = features[:1].expand_as(features)
    near = torch.tensor([[0.5, 0.5], [0.51, 0.5], [0.9, 0.9]])
    assert diverse_order(torch.tensor([0.9, 0.8, 0.3]), near, same[:3], most=3, least_value=0.0).tolist() == [0, 2, 1]
