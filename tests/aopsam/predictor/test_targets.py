from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from aopsam.predictor.kernels import PRESETS
from aopsam.predictor.targets import merge_points, prompt_map


def test_an_isolated_point_peaks_at_one_in_its_own_cell() -> None:
    target = prompt_map(np.array([[300.0, 100.0]]), (321, 481), sigma=2.0)
    assert target.shape == (256, 256)
    assert target.dtype == np.float32
    assert target.max() == 1.0
    row, column = np.unravel_index(target.argmax(), target.shape)
    assert (row, column) == (int(100 * 171 / 321), int(300 * 256 / 481))


def test_it_is_the_uniform_then_gaussian_filter_of_the_impulse() -> None:
    impulse = np.zeros((256, 256))
    impulse[128, 90] = 1
    expected = gaussian_filter(uniform_filter(impulse, 5), 3.0, truncate=6)
    target = prompt_map(np.array([[90.5, 128.5]]), (256, 256), box=5, sigma=3.0)
    np.testing.assert_allclose(target, expected / expected.max(), atol=1e-3)


def test_overlapping_points_take_their_maximum_or_their_clipped_sum() -> None:
    points = np.array([[100.0, 100.0], [104.0, 100.0]])
    alone = [prompt_map(points[[index]], (256, 256), sigma=3.0) for index in (0, 1)]
    np.testing.assert_array_equal(prompt_map(points, (256, 256), sigma=3.0), np.maximum(*alone))
    summed = prompt_map(points, (256, 256), sigma=3.0, combine="sum")
    np.testing.assert_allclose(summed, np.minimum(alone[0] + alone[1], 1), atol=1e-6)
    assert summed.sum() > np.maximum(*alone).sum()


def test_peaks_scale_their_kernels() -> None:
    points = np.array([[60.0, 100.0], [200.0, 100.0]])
    whole = prompt_map(points, (256, 256))
    np.testing.assert_allclose(
        prompt_map(points, (256, 256), peaks=np.array([0.5, 1.0])) / np.where(np.arange(256) < 128, 0.5, 1.0),
        whole,
        atol=1e-6,
    )


def test_a_deviation_for_every_point_widens_only_that_point() -> None:
    points = np.array([[60.0, 128.0], [190.0, 128.0]])
    target = prompt_map(points, (256, 256), sigmas=np.array([1.0, 6.0]))
    assert target[128, 190 + 6] > 0.5 > target[128, 60 + 6]


def test_scaled_deviations_follow_the_mask_between_the_limits() -> None:
    preset = PRESETS["scaled"]
    sigmas = preset.sigmas(np.array([1.0, 40.0**2, 250.0**2]))
    assert sigmas is not None
    np.testing.assert_allclose(sigmas, [preset.sigma, 0.15 * 40, preset.sigma_largest])
    assert PRESETS["medium"].sigmas(np.array([1.0])) is None


def test_the_last_pixel_of_the_photo_lies_in_the_content() -> None:
    target = prompt_map(np.array([[480.99, 320.99]]), (321, 481))
    assert np.unravel_index(target.argmax(), target.shape) == (170, 255)


def test_no_points_give_an_empty_map() -> None:
    assert prompt_map(np.zeros((0, 2)), (10, 10)).max() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points_px": np.zeros(3)}, "expected \\(N, 2\\)"),
        ({"points_px": np.array([[50.0, 5.0]])}, "outside the photo of 20×10 px"),
        ({"box": 4}, "odd number"),
        ({"combine": "mean"}, "expected 'max' or 'sum'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prompt_map(**({"points_px": np.zeros((1, 2)), "image_hw": (10, 20)} | arguments))


def test_near_points_of_like_masks_merge_and_of_unlike_masks_stay() -> None:
    points = np.array([[10.0, 10.0], [12.0, 10.0], [11.0, 11.0], [40.0, 40.0]])
    areas = np.array([100.0, 120.0, 900.0, 100.0])
    assert merge_points(points, areas, 4.0).tolist() == [0, 2, 3]
