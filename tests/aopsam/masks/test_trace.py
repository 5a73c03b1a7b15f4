"""Traced runs against masks made at full size, as segment-anything makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from torch.nn import functional

from aopsam.masks import rle
from aopsam.masks.resampling import Resampling
from aopsam.masks.trace import Traced, trace

SQUARE, LOW = 128, 32
# (photo rows, columns): smaller and larger than the square, upright and lying, odd ratios, thin, and beyond a block.
PHOTOS = [(96, 128), (100, 61), (128, 128), (321, 481), (700, 300), (37, 512), (1, 90), (90, 1), (3, 2), (640, 1280)]


def low_resolution(count: int, seed: int) -> torch.Tensor:
    """Smooth random logits, some masks small, some over the border, one everywhere, one nowhere."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 1, 8, 8, generator=generator) * 4
    logits = functional.interpolate(noise, (LOW, LOW), mode="bicubic", align_corners=False)[:, 0] - 2
    logits[0], logits[1] = 5.0, -5.0
    logits[2] = -5.0
    logits[2, 10, 3] = 9.0
    logits[3] = torch.randn(LOW, LOW, generator=generator) * 3
    return logits


def input_hw(photo_hw: tuple[int, int]) -> tuple[int, int]:
    scale = SQUARE / max(photo_hw)
    return max(1, int(photo_hw[0] * scale + 0.5)), max(1, int(photo_hw[1] * scale + 0.5))


def full_size(logits: torch.Tensor, photo_hw: tuple[int, int]) -> torch.Tensor:
    """`Sam.postprocess_masks`."""
    square = functional.interpolate(logits[:, None], (SQUARE, SQUARE), mode="bilinear", align_corners=False)
    rows, columns = input_hw(photo_hw)
    return functional.interpolate(square[..., :rows, :columns], photo_hw, mode="bilinear", align_corners=False)[:, 0]


def traced(logits: torch.Tensor, photo_hw: tuple[int, int], least: float = 0.0) -> list[Traced]:
    resampling = Resampling((LOW, LOW), LOW, SQUARE, input_hw(photo_hw), photo_hw)
    return trace(logits, resampling, threshold=0.0, offset=1.0, least_stability=least)


def bitmap(found: Traced) -> np.ndarray:
    assert found.runs is not None
    return rle.decode(rle.from_runs(found.runs))


@pytest.mark.parametrize("photo_hw", PHOTOS, ids=str)
def test_equals_masks_made_at_full_size(photo_hw: tuple[int, int]) -> None:
    logits = low_resolution(12, seed=photo_hw[0])
    expected = full_size(logits, photo_hw)
    stability = calculate_stability_score(expected, 0.0, 1.0).numpy()
    boxes = batched_mask_to_box(expected > 0).numpy()
    for i, found in enumerate(traced(logits, photo_hw)):
        mask = expected[i].numpy() > 0
        sure = np.abs(expected[i].numpy()) > 1e-4  # rounding decides the others
        ours = bitmap(found)
        assert (ours == mask)[sure].all()
        pixels = max(1, int((expected[i] > -1).sum()))
        assert np.isnan(found.stability) == np.isnan(stability[i])
        assert np.isnan(stability[i]) or found.stability == pytest.approx(stability[i], abs=2 / pixels)
        assert found.runs is not None
        if (ours == mask).all():
            assert found.runs.box_xyxy_px == tuple(boxes[i])
            assert rle.from_runs(found.runs) == rle.encode(mask)


def test_unstable_masks_are_not_traced_to_the_end() -> None:
    logits = low_resolution(12, seed=5)
    for found in traced(logits, (96, 128), least=0.6):
        assert (found.runs is None) == (not found.stability >= 0.6)


def test_no_masks() -> None:
    assert traced(torch.zeros(0, LOW, LOW), (96, 128)) == []


def test_what_is_cut_off_the_padding_changes_nothing() -> None:
    logits, photo_hw = low_resolution(12, seed=1), (100, 200)
    whole = Resampling((LOW, LOW), LOW, SQUARE, input_hw(photo_hw), photo_hw)
    cut = Resampling((20, LOW), LOW, SQUARE, input_hw(photo_hw), photo_hw)
    assert whole.knots.touched_by(slice(20, LOW)) == slice(64, 64)  # of 64 knots
    assert np.array_equal(whole.knots.first, cut.knots.first)
    settings = {"threshold": 0.0, "offset": 1.0, "least_stability": 0.0}
    logits[:, 17:] = -5.0  # nothing lies there: the padding begins at row 16
    for one, other in zip(trace(logits, whole, **settings), trace(logits[:, :20], cut, **settings), strict=True):
        assert one.runs is not None
        assert other.runs is not None
        assert np.array_equal(one.runs.starts, other.runs.starts)
        assert np.array_equal(one.runs.stops, other.runs.stops)


def test_many_masks_are_traced_in_threads_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = low_resolution(100, seed=3)
    alone = [traced(logits[i : i + 1], (90, 128))[0] for i in range(100)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    together = traced(logits, (90, 128))
    assert [rle.from_runs(found.runs) for found in together] == [rle.from_runs(found.runs) for found in alone]
    assert np.array_equal([found.stability for found in together], [found.stability for found in alone], equal_nan=True)
