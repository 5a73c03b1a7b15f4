from __future__ import annotations

import numpy as np
import pytest
import torch

from aopsam.predictor.frame import content_hw, normalise, to_frame
from aopsam.predictor.inference import confidence_map
from aopsam.predictor.network import PromptPredictor


def _photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("image_hw", [(321, 481), (481, 321), (1, 900), (20, 20), (3000, 4000)])
def test_the_content_is_rounded_as_sam_rounds_it(image_hw: tuple[int, int]) -> None:
    from segment_anything.utils.transforms import ResizeLongestSide  # beside a CPU torch, only after aopsam

    rows, columns = content_hw(image_hw)
    assert (rows, columns) == tuple(max(1, side) for side in ResizeLongestSide.get_preprocess_shape(*image_hw, 256))


def test_the_frame_holds_the_photo_and_zeros() -> None:
    frame = to_frame(np.full((100, 200, 3), 90, np.uint8))
    assert frame.shape == (256, 256, 3)
    assert (frame[:128] == 90).all()
    assert not frame[128:].any()


def test_padding_is_zero_after_normalisation() -> None:
    image = normalise(torch.from_numpy(to_frame(_photo(100, 200)))[None], torch.tensor([[128, 256]]))
    assert image.shape == (1, 3, 256, 256)
    assert not image[:, :, 128:].any()
    assert image[:, :, :128].abs().max() > 1


@pytest.mark.parametrize(("image_hw", "map_hw"), [((321, 481), (171, 256)), ((640, 427), (256, 171))])
def test_the_map_covers_the_content_alone(image_hw: tuple[int, int], map_hw: tuple[int, int]) -> None:
    result = confidence_map(PromptPredictor(8).eval(), _photo(*image_hw), torch.randn(1, 8, 32, 32).half())
    assert result.shape == map_hw
    assert result.dtype == np.float32
    assert 0 <= result.min() <= result.max() <= 1


def test_an_embedding_of_another_sam_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 64, 4, 4\), the predictor expects \(1, 8, h, w\)"):
        confidence_map(PromptPredictor(8), _photo(8, 8), torch.zeros(1, 64, 4, 4))
