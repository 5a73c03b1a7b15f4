"""Presets of papers: the masks of their spelled-out options, and what a user gives wins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from aopsam._options import checked, options_of
from aopsam.everything.generator import AutoMaskGenerator
from aopsam.everything.options import GeneratorOptions
from aopsam.predictor.weights import BUNDLED, load_predictor
from aopsam.prompting import PRESETS, STRATEGIES, find_strategy, make_strategy, presets
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.asf import AdaptiveFilter
from aopsam.sam.encode import EncodedPhoto, encode

SPELLED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "aop-paper": (
        "aop",
        {
            "elimination": "scaled",
            "things": 0,
            "k": 1.3,
            "smoothing_sigma": 2.0,
            "spacing": 6,
            "threshold": 0.2,
            "round_size": 16,
        },
        {"rank_by": "predicted_iou", "duplicates": "box-nms", "box_nms_thresh": 0.7, "masks_per_prompt": 3},
    ),
    "efficient-sam2": (
        "attention",
        {"min_samples": 2, "min_cluster_size": 10},
        {"rank_by": "predicted_iou", "duplicates": "merge", "merge_thresh": 0.8, "masks_per_prompt": 1},
    ),
    "mobile-sam-v2": (
        "oas-box",
        {"max_boxes": 320, "nms_thresh": 0.75},
        {"rank_by": "predicted_iou", "duplicates": "none", "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0},
    ),
    "efficient-sam-amr": (
        "grid-32",
        {},
        {
            "rank_by": "predicted_iou",
            "duplicates": "box-nms",
            "box_nms_thresh": 0.7,
            "masks_per_prompt": 1,
            "refine": "formula",
            "refine_points": "added",
        },
    ),
}
"""Strategy, its options and those of everything mode of each preset, written out."""
FEW = {
    "aop-paper": {"threshold": 0.02},
    "efficient-sam2": {"max_prompts": 6},
    "mobile-sam-v2": {"max_boxes": 5},
    "efficient-sam-amr": {},
}
"""Options that keep a test small."""


@pytest.fixture(scope="module")
def photo(tiny: Sam, scene: np.ndarray) -> EncodedPhoto:
    return encode(tiny, scene)


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of 9 points stands for one of 1024."""
    per_side = STRATEGIES["grid-N"].per_side  # type: ignore[attr-defined]
    monkeypatch.setattr(STRATEGIES["grid-N"], "per_side", lambda n: per_side(min(n, 3)))


def _masks(records: Sequence[dict]) -> list[Any]:
    return [(r["segmentation"]["counts"], r["predicted_iou"], r["point_coords"], r.get("box")) for r in records]


def test_every_preset_is_tried_here() -> None:
    assert PRESETS.keys() == SPELLED.keys() == FEW.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_options_spelled_out(photo: EncodedPhoto, name: str) -> None:
    strategy, options, after = SPELLED[name]
    if (detector := PRESETS[name].detector) is not None:
        options = options | {"detector": detector}
    own = {"predictor": load_predictor(), "output_mode": "coco_rle"}  # a preset's own weights: see below
    preset = AutoMaskGenerator(photo.model, prompts=name, strategy_options=FEW[name], **own)
    plain = AutoMaskGenerator(photo.model, prompts=strategy, strategy_options=options | FEW[name], **own, **after)
    assert preset.scorer is None
    assert _with_effect(preset.options) == _with_effect(plain.options)
    found, expected = (generator.label(photo.rgb, photo) for generator in (preset, plain))
    assert _masks(found.records) == _masks(expected.records)
    assert found.records
    assert (found.dropped, found.refinements > 0) == (expected.dropped, name == "efficient-sam-amr")


def _with_effect(options: GeneratorOptions) -> dict[str, Any]:
    """Without masks_per_prompt, which means nothing for boxes."""
    return {key: value for key, value in vars(options).items() if key != "masks_per_prompt"}


@pytest.mark.parametrize("name", PRESETS)
def test_its_options_are_such_as_can_be_told_from_not_given(name: str) -> None:
    preset, nothing_given = PRESETS[name], GeneratorOptions()
    strategy, _ = find_strategy(name)
    assert strategy is find_strategy(preset.strategy)[0]
    checked(options_of(strategy), preset.options)
    checked(options_of(GeneratorOptions), preset.after)
    assert [getattr(nothing_given, option) for option in preset.after] == [None] * len(preset.after)
    assert preset.paper
    assert name not in STRATEGIES


def test_what_a_user_gives_wins(tiny: Sam) -> None:
    given = {"rank_by": "score", "duplicates": "mask-nms", "masks_per_prompt": 1, "box_nms_thresh": 0.5}
    generator = AutoMaskGenerator(
        tiny, prompts="aop-paper", predictor=load_predictor(), strategy_options={"k": 2.0, "spacing": 3}, **given
    )
    assert {name: getattr(generator.options, name) for name in given} == given
    assert generator.scorer is not None
    (strategy,) = generator.strategies
    assert isinstance(strategy, AutoPrompts)
    assert (strategy.k, strategy.spacing, strategy.elimination, strategy.sampling.threshold) == (2.0, 3, "scaled", 0.2)


def test_a_preset_has_its_own_predictor_unless_one_is_given(
    tiny: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = presets.Preset("made up", "aop", {"elimination": "scaled"}, predictor=tmp_path / "own.safetensors")
    monkeypatch.setitem(PRESETS, "aop-paper", own)
    with pytest.raises(FileNotFoundError, match=r"own\.safetensors: no such predictor; train one with"):
        make_strategy("aop-paper", tiny)
    given = make_strategy("aop-paper", tiny, load_predictor())
    (tmp_path / "own.safetensors").write_bytes(BUNDLED.read_bytes())
    assert make_strategy("aop-paper", tiny).weights() == given.weights()


def test_a_preset_has_its_own_detector_unless_one_is_given(
    tiny: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = presets.Preset("made up", "oas-box", detector=tmp_path / "own.safetensors")
    monkeypatch.setitem(PRESETS, "mobile-sam-v2", own)
    with pytest.raises(FileNotFoundError, match=r"own\.safetensors"):
        make_strategy("mobile-sam-v2", tiny)
    bundled = make_strategy("oas-box", tiny).proposer.detector  # type: ignore[attr-defined]
    assert make_strategy("mobile-sam-v2", tiny, detector=bundled).weights()


def test_an_unknown_name_is_told_of_presets_too(tiny: Sam) -> None:
    with pytest.raises(ValueError, match=r"'aop-papr'; did you mean aop-paper\? choose from grid-N, .*mobile-sam-v2"):
        make_strategy("aop-papr", tiny)


def test_filtering_compares_on_the_embedding_of_the_sam_that_decodes(
    small_sam: Sam, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another SAM's embedding proposes (Eq. 1 and 2)."""
    seen: list[torch.Tensor] = []

    class Noted(AdaptiveFilter):
        def __init__(self, embedding: torch.Tensor) -> None:
            seen.append(embedding)
            super().__init__(embedding)

    monkeypatch.setattr("aopsam.prompting.aop.AdaptiveFilter", Noted)
    photo = encode(small_sam, scene)
    generator = AutoMaskGenerator(
        small_sam, prompts="aop-paper", predictor=load_predictor(), strategy_options={"threshold": 0.02}
    )
    assert generator.strategies[0].proposer.source.sam is not None  # type: ignore[attr-defined]
    generator.label(scene, photo)
    rows, columns = photo.content_cells
    assert torch.equal(seen[0], photo.embedding[0, :, :rows, :columns].float())
