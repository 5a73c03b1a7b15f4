"""Adaptive Mask Refinement's pure parts, on drawn masks; the perimeter beside scikit-image's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import perimeter as reference_perimeter

from aopsam.masks.refine import (
    added_points,
    boundary_points,
    centre_points,
    compactness,
    perimeter,
    wants_centre,
)
from aopsam.masks.runs import Runs

Y, X = np.mgrid[:120, :160]
DISC = np.hypot(Y - 60, X - 80) < 40
STAR = np.hypot(Y - 60, X - 80) < 30 + 20 * np.cos(9 * np.arctan2(Y - 60, X - 80))
TWO_DISCS = (np.hypot(Y - 60, X - 40) < 30) | (np.hypot(Y - 60, X - 120) < 20)


@pytest.mark.parametrize("seed", range(6))
def test_the_perimeter_is_scikit_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.normal(size=(50, 70)), rng.uniform(0.5, 5)) > 0
    assert perimeter(mask) == pytest.approx(reference_perimeter(mask))


def test_a_disc_is_compact_and_a_star_is_not() -> None:
    assert compactness(DISC) == pytest.approx(1, abs=0.1)
    assert compactness(STAR) < 0.4
    assert compactness(np.ones((1, 1), bool)) == 1  # no perimeter


@pytest.mark.parametrize(
    ("mask", "formula", "prose"),
    [(DISC, True, True), (STAR, False, False), (TWO_DISCS, False, True)],
    ids=["compact", "ragged", "fragmented"],
)
def test_the_two_readings_differ_on_fragmented_masks(mask: np.ndarray, formula: bool, prose: bool) -> None:
    assert (wants_centre(mask, "formula"), wants_centre(mask, "prose")) == (formula, prose)


def test_centre_points_are_deep_and_far_apart() -> None:
    points = centre_points(DISC)
    assert points is not None
    depth = ndimage.distance_transform_edt(DISC)
    deep = np.argwhere(depth >= 0.7 * depth.max())
    assert (depth[points[:, 1], points[:, 0]] >= 0.7 * depth.max()).all()
    assert depth[points[0, 1], points[0, 0]] == depth.max()
    farthest = np.hypot(*(deep - points[0, ::-1]).T).max()
    assert np.hypot(*(points[1] - points[0])) == pytest.approx(farthest)


def test_boundary_points_lie_just_outside_at_opposite_ends() -> None:
    points = boundary_points(DISC)
    assert points is not None
    distance = ndimage.distance_transform_edt(~DISC)
    assert not DISC[points[:, 1], points[:, 0]].any()
    assert (distance[points[:, 1], points[:, 0]] < 1.5).all()
    assert points[:, 1].tolist() == [60 - 40, 60 + 40]


def test_no_place_no_points() -> None:
    assert boundary_points(np.ones((4, 5), bool)) is None
    assert boundary_points(np.zeros((4, 5), bool)) is None
    assert centre_points(np.zeros((4, 5), bool)) is None


@pytest.mark.parametrize("size", [1, 10], ids=["as it is", "shrunk"])
def test_points_are_in_pixels_of_the_photo(size: int) -> None:
    disc, star = (np.kron(mask, np.ones((size, size), bool)) for mask in (DISC, STAR))
    centre, boundary = (added_points(Runs.of_mask(mask), "formula") for mask in (disc, star))
    assert centre is not None
    assert boundary is not None
    assert (centre.inside, boundary.inside) == (True, False)
    for found, mask in ((centre, disc), (boundary, star)):
        x, y = found.points_px.astype(int).T
        assert mask[y, x].tolist() == [found.inside] * 2
        near = ndimage.distance_transform_edt(~mask)[y, x]
        assert (near <= 3 * size).all()
