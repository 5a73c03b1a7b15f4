"""Compiled loops against the NumPy code that they stand for: equal to the last bit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam import masks as room
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks import kernels, mask_nms, overlap, rle, trace
from aopsam.masks.runs import Runs
from tests.aopsam.masks.test_trace import LOW, PHOTOS, low_resolution, traced

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


def test_logits_that_are_nearly_a_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole areas a few roundings off one: what is made of them may come to lie on its other side."""
    random = np.random.default_rng(0)
    logits = random.choice(np.float32([-1, 0, 1]), (40, LOW, LOW)) * (1 + random.choice([0, 1e-7, -1e-7], (40, 1, 1)))
    logits[:20, 8:24] = logits[:20, 8:9, :1]
    for photo_hw in PHOTOS:
        ours, expected = both(monkeypatch, lambda hw=photo_hw: traced(torch.from_numpy(logits).float(), hw))
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
    found = masks(30)
    np.testing.assert_array_equal(*both(monkeypatch, lambda: overlap.intersections(found, found)))


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


def imported(monkeypatch: pytest.MonkeyPatch, njit: Callable[..., Any]) -> Any:
    """Import the compiled loops anew, with something in place of Numba's decorator."""
    monkeypatch.setattr(numba, "njit", njit)
    monkeypatch.delitem(sys.modules, "aopsam.masks.compiled")
    monkeypatch.delattr(room, "compiled")
    return kernels.__wrapped__()


@pytest.mark.parametrize(("writable", "told", "kept"), [(True, "", ""), (False, "", "numba"), (False, "told", "told")])
def test_where_compiled_code_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writable: bool, told: str, kept: str
) -> None:
    kept = str(tmp_path / kept) if kept else ""
    monkeypatch.setenv("AOPSAM_CACHE", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / told) if told else "")
    monkeypatch.setattr(room.os, "access", lambda path, mode: writable)
    seen = set()
    assert imported(monkeypatch, lambda *_, **__: seen.add(numba.config.CACHE_DIR) or (lambda loop: loop)) is not None
    assert seen == {kept}
    assert str(tmp_path / told if told else "") == numba.config.CACHE_DIR  # of others who use Numba here


def test_loops_that_do_not_compile_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(*_: Any, **__: Any) -> None:
        raise RuntimeError("no locator")

    with pytest.warns(RuntimeWarning, match="masks are made without Numba, slower: no locator"):
        assert imported(monkeypatch, njit) is None
    monkeypatch.setitem(sys.modules, "numba", None)
    assert kernels.__wrapped__() is None
