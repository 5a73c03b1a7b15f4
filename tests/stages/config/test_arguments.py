from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from stages.config.arguments import add_label_options, label_config
from stages.config.label_config import LabelConfig
from stages.config.strategy_spec import parse_strategies


def _config(*flags: str) -> LabelConfig:
    parser = argparse.ArgumentParser()
    add_label_options(parser)
    return label_config(parser.parse_args(flags))


def test_a_strategy_brings_its_options_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = _config("--prompts", "oas-box(detector=out/detector.safetensors,max_boxes=100)")
    # Workers run in folders of their own.
    options = {"detector": str(tmp_path / "out" / "detector.safetensors"), "max_boxes": 100}
    assert (config.prompts, config.strategy_options) == ("oas-box", options)


def test_options_of_the_file_stay_where_the_flag_brings_none(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("strategy_options: {seed: 3}\n")
    file = ("--config", str(tmp_path / "run.yaml"))
    assert _config(*file, "--prompts", "random-9").strategy_options == {"seed": 3}
    assert _config(*file, "--prompts", "random-9(seed=4)").strategy_options == {"seed": 4}


def test_options_of_the_generator_are_settings_of_their_own() -> None:
    config = _config("--prompts", "aop(k=2,box_nms_thresh=0.5,min_mask_region_area=20)")
    assert (config.strategy_options, config.box_nms_thresh, config.min_mask_region_area) == ({"k": 2}, 0.5, 20)
    for text in ("box_nms_thresh=high", "min_mask_region_area=0.5", "crop_n_layers=true"):
        with pytest.raises(ValueError, match=f"'{text}' in .*: expected (int|float)"):
            parse_strategies(f"aop({text})")


def test_a_corpus_has_one_strategy() -> None:
    with pytest.raises(ValueError, match="labelled with one strategy"):
        _config("--prompts", "aop(k=2),grid-8")


def test_a_detector_is_a_file_and_other_words_are_words() -> None:
    (spec,) = parse_strategies("oas-center(detector=/a/b-1.safetensors)")
    assert spec.options == {"detector": "/a/b-1.safetensors"}
    (spec,) = parse_strategies("aop(elimination=scaled)")
    assert spec.options == {"elimination": "scaled"}
