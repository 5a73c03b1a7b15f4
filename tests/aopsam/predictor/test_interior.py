from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from aopsam.predictor.interior import interior_point


def test_the_centre_of_a_rectangle() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:31, 20:61] = True
    x, y = interior_point(mask)
    assert y == 20
    assert 30 <= x <= 50


def test_the_photo_edge_is_a_border() -> None:
    x, y = interior_point(np.ones((21, 21), bool))
    assert (x, y) == (10, 10)


def test_a_large_mask_is_read_coarsely_and_nearly_as_deep() -> None:
    rows, columns = np.mgrid[:900, :1200]
    mask = np.hypot((columns - 500) / 1.7, rows - 430) < 300
    x, y = interior_point(mask)
    depth = distance_transform_edt(mask)
    assert mask[int(y), int(x)]
    assert depth[int(y), int(x)] > 0.98 * depth.max()


def test_a_line_thinner_than_the_step_keeps_its_point() -> None:
    mask = np.zeros((500, 500), bool)
    mask[1:499, 7] = True
    mask[1, 7:490] = True
    x, y = interior_point(mask)
    assert mask[int(y), int(x)]


def test_an_empty_mask_has_none() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        interior_point(np.zeros((5, 5), bool))
