"""Compiled loops against the NumPy code that they stand for: equal to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from segment_anything.modeling import Sam

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks import kernels, mask_nms, overlap, rle, trace
from aopsam.masks.runs import Runs
from tests.aopsam.masks.test_trace import PHOTOS, low_resolution, traced

assert kernels() is not None


def both(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> tuple[Any, Any]:
    """Make something by compiled loops, and without."""
    compiled = make()
    with monkeypatch.context() as without:
        for module in (trace, mask_nms, overlap, rle):
            without.setattr(module, "kernels", lambda: None)
        return compiled, make()


def plain(runs: Runs | None) -> Any:
    return runs and (runs.starts.tolist(), runs.stops.tolist(), runs.hw, runs.box_xyxy_px)


@pytest.mark.parametrize("least", [0.0, 0.6])
@pytest.mark.parametrize("photo_hw", [*PHOTOS, (1500, 2250)], ids=str)
def test_stability_and_runs(monkeypatch: pytest.MonkeyPatch, photo_hw: tuple[int, int], least: float) -> None:
    logits = low_resolution(12, seed=sum(photo_hw))
    ours, expected = both(monkeypatch, lambda: traced(logits, photo_hw, least))
    assert [plain(found.runs) for found in ours] == [plain(found.runs) for found in expected]
    np.testing.assert_array_equal([found.stability for found in ours], [found.stability for found in expected])


def masks(count: int, hw: tuple[int, int] = (60, 80)) -> list[Runs]:
    """Blobs, some of them nested, equal or empty, some over the whole frame."""
    random = np.random.default_rng(count)
    rows, columns = np.indices(hw)
    made = []
    for _ in range(count):
        y, x, radius = random.integers(0, hw[0]), random.integers(0, hw[1]), random.choice([0, 3, 10, 11, 200])
        mask = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        made.append(Runs.of_mask(mask & (random.random(hw) < 0.9)))
    return [*made, made[0]]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_suppression(monkeypatch: pytest.MonkeyPatch, threshold: float) -> None:
    found, scores = masks(60), np.random.default_rng(1).integers(0, 9, 61) / 9
    ours, expected = both(monkeypatch, lambda: mask_nms.mask_nms(found, scores, threshold).tolist())
    assert ours == expected
    assert mask_nms.mask_nms([], scores[:0], threshold).tolist() == []


def test_shared_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, expected = both(monkeypatch, lambda: overlap.intersections(masks(30), masks(20)))
    np.testing.assert_array_equal(ours, expected)
    assert ours.any()


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(0, 2 ** np.arange(1, 32).repeat(9))
    ours, expected = both(monkeypatch, lambda: rle._write_counts(lengths))
    assert ours == expected


@pytest.mark.parametrize("options", [{}, {"tile_size": 200}, {"overlap": "flat", "duplicates": "merge"}], ids=str)
def test_records(monkeypatch: pytest.MonkeyPatch, tiny: Sam, scene: np.ndarray, options: dict[str, Any]) -> None:
    generator = AutoMaskGenerator(tiny, prompts="grid-4", output_mode="coco_rle", **options)
    ours, expected = both(monkeypatch, lambda: generator.generate(scene))
    assert ours == expected
    assert ours
