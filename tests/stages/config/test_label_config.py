"""Configurations from files and flags, and how they are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from aopsam.everything.options import GeneratorOptions
from aopsam.prompting import PRESETS
from pipelines.label_corpus import parse_arguments
from stages.config.label_config import LabelConfig, difference, digest
from stages.config.strategy_spec import parse_strategies, preset_values
from stages.storage.errors import BadInput


def _parse(*flags: str) -> LabelConfig:
    return parse_arguments(["--images", "in", "--out", "out", *flags]).label.with_written_options()


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("sam: mobile_sam\nprompts: grid-8\npred_iou_thresh: 0.5\nstrategy_options: {}\n")
    config = _parse("--config", str(file), "--prompts", "random-5")
    assert (config.sam, config.prompts) == ("mobile_sam", "random-5")
    assert (config.options.pred_iou_thresh, config.options.box_nms_thresh) == (0.5, None)
    assert _parse("--config", str(file), "--pred-iou-thresh", "0.25").options.pred_iou_thresh == 0.25


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("treshold: 1", "unknown option 'treshold'; choose from sam"),
        ("pred_iou_thresh: high", "pred_iou_thresh='high'; expected a number from 0 to 1 or None"),
        ("pred_iou_thresh: 88", "pred_iou_thresh=88; expected a number from 0 to 1 or None"),
        ("points_per_batch: true", "points_per_batch=True; expected a whole number of at least 1"),
        ("points_per_batch: 0", "points_per_batch=0; expected a whole number of at least 1"),
        ("tile_size: 64.5", "tile_size=64.5; expected a whole number of at least 64"),
        ("tile_whole: 1", "tile_whole=1; expected true or false"),
        ("max_pixels: 0", "max_pixels=0; expected a whole number of at least 1"),
        ("duplicates: nms", "duplicates='nms'; choose from None, box-nms"),
        ("encoder_runtime: onnx", "encoder_runtime='onnx'; choose from torch, openvino"),
        ("tile_size: 512\ncrop_n_layers: 1", "tile_size=512 and crop_n_layers exclude each other"),
        ("- 1", "expected a mapping"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(BadInput) as caught:
        _parse("--config", str(file))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("pred_iou_thresh: 1e-3\n")
    assert _parse("--config", str(file)).options.pred_iou_thresh == 0.001


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("")
    assert _parse("--config", str(file)) == LabelConfig()


def test_digest_and_difference() -> None:
    before, now = LabelConfig().as_dict(), LabelConfig(prompts="grid-4").as_dict()
    assert digest(before) == digest(dict(reversed(before.items())))
    assert digest(before) != digest(now)
    assert difference(before, now) == ["prompts: 'aop' there, 'grid-4' now"]
    assert difference(before, before) == []


def test_a_manifest_has_no_keys_of_stores() -> None:
    values = {"predictor": "s3://key:secret@b/r@7", "strategy_options": {"detector": "s3://key:secret@b/d.pt"}}
    kept = LabelConfig.from_mapping(values, "test").as_dict()
    assert (kept["predictor"], kept["strategy_options"]) == ("s3://b/r@7", {"detector": "s3://b/d.pt"})


def test_a_mapping_comes_back_as_it_went() -> None:
    config = LabelConfig.from_mapping({"sam": "vit_b", "tile_size": 512, "overlap": "flat"}, "test")
    assert LabelConfig.from_mapping(config.as_dict(), "test") == config


def test_what_comes_after_decoding_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("duplicates: merge\nrefine: prose\noverlap: flat\ntile_size: 2048\ntile_whole: false\n")
    config = _parse("--config", str(file))
    expected = {"duplicates": "merge", "refine": "prose", "overlap": "flat", "tile_size": 2048, "tile_whole": False}
    assert {name: getattr(config.options, name) for name in expected} == expected
    assert difference(LabelConfig().as_dict(), config.as_dict())[:2] == [
        "duplicates: None there, 'merge' now",
        "overlap: 'nested' there, 'flat' now",
    ]


def test_a_strategy_brings_its_options_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = _parse("--prompts", "oas-box(detector=out/detector.safetensors,max_boxes=100)")
    # Workers run in folders of their own.
    options = {"detector": str(tmp_path / "out" / "detector.safetensors"), "max_boxes": 100}
    assert (config.prompts, config.strategy_options) == ("oas-box", options)


def test_options_of_the_file_stay_where_the_flag_brings_none(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("strategy_options: {seed: 3}\n")
    file = ("--config", str(tmp_path / "run.yaml"))
    assert _parse(*file, "--prompts", "random-9").strategy_options == {"seed": 3}
    assert _parse(*file, "--prompts", "random-9(seed=4)").strategy_options == {"seed": 4}


def test_options_of_the_generator_are_settings_of_their_own() -> None:
    config = _parse("--prompts", "aop(k=2,box_nms_thresh=0.5,min_mask_region_area=20)")
    assert config.strategy_options == {"k": 2}
    assert (config.options.box_nms_thresh, config.options.min_mask_region_area) == (0.5, 20)


@pytest.mark.parametrize("text", ["box_nms_thresh=high", "min_mask_region_area=0.5", "crop_n_layers=true"])
def test_an_option_of_the_generator_is_checked_where_it_is_read(text: str) -> None:
    name = text.partition("=")[0]
    with pytest.raises(ValueError, match=rf"aop\({text}\): {name}=.*; expected a (whole )?number"):
        parse_strategies(f"aop({text})")


def test_a_corpus_has_one_strategy() -> None:
    with pytest.raises(ValueError, match="labelled with one strategy"):
        _parse("--prompts", "aop(k=2),grid-8")


def test_a_detector_is_a_file_and_other_words_are_words() -> None:
    (spec,) = parse_strategies("oas-center(detector=/a/b-1.safetensors)")
    assert spec.options == {"detector": "/a/b-1.safetensors"}
    (spec,) = parse_strategies("aop(elimination=scaled)")
    assert spec.options == {"elimination": "scaled"}


def test_a_predictor_in_brackets_is_that_of_the_run() -> None:
    config = _parse("--prompts", "aop(predictor=runs/p.safetensors,k=2)").with_written_options()
    assert (config.predictor, config.strategy_options) == (str(Path("runs/p.safetensors").absolute()), {"k": 2})


@pytest.mark.parametrize("name", ["scorer", "mask_head", "thing_head"])
def test_weights_in_brackets_are_files_wherever_a_worker_runs(name: str) -> None:
    (spec,) = parse_strategies(f"grid-2({name}=runs/w.safetensors)")
    assert spec.options == {name: str(Path("runs/w.safetensors").absolute())}


def test_a_preset_is_recorded_as_what_it_means() -> None:
    config = LabelConfig(prompts="efficient-sam2").with_written_options()
    assert config.prompts == "efficient-sam2"
    values = config.as_dict()
    assert (values["duplicates"], values["masks_per_prompt"], values["rank_by"]) == ("merge", 1, "predicted_iou")
    paper = LabelConfig(prompts="aop-paper(k=1.4,masks_per_prompt=1)", options=GeneratorOptions(box_nms_thresh=0.6))
    values = paper.with_written_options().as_dict()
    assert values["strategy_options"] == PRESETS["aop-paper"].options | {"k": 1.4}
    assert (values["masks_per_prompt"], values["box_nms_thresh"], values["duplicates"]) == (1, 0.6, "box-nms")
    assert not any("/" in str(value) for value in values.values())  # no path of this machine
    assert digest(config.as_dict()) == digest(LabelConfig(prompts="efficient-sam2").with_written_options().as_dict())
    assert config.with_written_options() == config


def test_an_evaluation_records_what_presets_mean() -> None:
    specs = parse_strategies("aop,mobile-sam-v2,aop-paper(k=1.4),aop-paper")
    values = preset_values(specs)
    assert list(values) == ["mobile-sam-v2", "aop-paper"]
    assert values["mobile-sam-v2"]["prompts"] == "oas-box"
    assert (values["mobile-sam-v2"]["max_boxes"], values["mobile-sam-v2"]["duplicates"]) == (320, "none")
    assert (values["aop-paper"]["k"], specs[2].options) == (1.3, {"k": 1.4})
    assert preset_values(specs[:1]) == {}
