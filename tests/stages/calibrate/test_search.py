"""Choosing a setting: the rule and the walk on made-up figures, and one run from photos to a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aopsam.sam.model import assemble
from aopsam.sam.registry import MODELS, ModelSpec, load_sam
from pipelines.calibrate import main
from stages.calibrate.output import config_of, write_calibration
from stages.calibrate.search import Rule, Trial, calibrate, default_sweeps
from stages.config.label_config import LabelConfig
from stages.config.strategy_spec import StrategySpec, parse_strategies, parse_values
from tests.helpers.made_shard import ToyEncoder, jpeg, save_random, two_objects, write_shard

HW = (96, 128)


def trial(text: str, miou: float, prompts: float, kept: float = 10.0) -> Trial:
    (spec,) = parse_strategies(text)
    return Trial(spec, np.array([miou, miou]), np.array([3.0, 1.0]), prompts, kept, 0.1)


def test_the_fewest_prompts_within_half_of_what_may_be_lost() -> None:
    trials = [
        trial("grid-8", 0.5, 64),
        trial("grid-7", 0.4951, 49),
        trial("grid-6", 0.4949, 36),
        trial("grid-9", 0.4, 9),
    ]
    assert Rule(0.01).by_prompts(trials) is trials[1]
    assert Rule(0.0).by_prompts(trials) is trials[0]
    assert Rule(0.01, at_most_prompts=40).by_prompts(trials) is trials[2]
    with pytest.raises(ValueError, match="at most 5 prompts; grid-9 has the fewest, 9"):
        Rule(0.01, at_most_prompts=5).by_prompts(trials)


def test_thresholds_are_chosen_by_the_masks_that_are_kept() -> None:
    trials = [trial("aop", 0.5, 60, 90), trial("aop(box_nms_thresh=0.5)", 0.497, 60, 50), trial("grid-2", 0.3, 4, 4)]
    assert Rule(0.01).by_masks(trials) is trials[1]


def test_each_option_goes_on_from_the_best_so_far() -> None:
    asked: list[str] = []

    def measure(spec: StrategySpec) -> Trial:
        asked.append(spec.text)
        options = spec.options
        miou = 0.5 if spec.name == "grid-4" else 0.6 - 0.1 * abs(options.get("threshold", 0.3) - 0.1)
        prompts = 16 if spec.name == "grid-4" else 50 - 10 * options.get("spacing", 1)
        return trial(spec.text, miou - 0.001 * options.get("box_nms_thresh", 0), prompts)

    sweeps = {"threshold": [0.1, 0.2, 0.1], "spacing": [2, 3], "box_nms_thresh": [0.6]}
    trials, chosen = calibrate(measure, parse_strategies("grid-4,aop"), lambda name: sweeps, Rule(0.001))
    assert asked == [
        *("grid-4", "aop", "aop(threshold=0.1)", "aop(threshold=0.2)"),
        *("aop(threshold=0.1,spacing=2)", "aop(threshold=0.1,spacing=3)"),
        "aop(threshold=0.1,spacing=3,box_nms_thresh=0.6)",
    ]
    assert [each.spec.text for each in trials] == asked
    assert chosen.spec.text == "aop(threshold=0.1,spacing=3)"  # the threshold cost as many masks


def test_what_is_tried_lies_around_what_the_weights_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(build=lambda: assemble(ToyEncoder()), weights=tmp_path / "toy.safetensors", terms="none")
    monkeypatch.setitem(MODELS, "toy", spec)
    save_random("toy", tmp_path)
    model = load_sam("toy")
    specs = parse_strategies("aop,grid-4,aop-paper,aop(duplicates=merge)")
    sweeps, of_grid, of_paper, merging = (default_sweeps(model, None, spec) for spec in specs)
    assert sweeps["box_nms_thresh"] == [0.7, 0.8, 1.0]  # 0.9, and nothing above 1
    assert sweeps.keys() - of_grid.keys() == {"things", "threshold", "spacing", "likeness", "times"}
    assert sweeps.keys() == of_paper.keys()
    assert merging.keys() - sweeps.keys() == {"merge_thresh"}
    # Where masks rank by a score, the thresholds are those that are kept by.
    (spec,) = parse_strategies("grid-4")
    assert {"score_thresh", "mask_nms_thresh"} < default_sweeps(load_sam("tiny"), None, spec).keys()
    assert "box_nms_thresh" not in default_sweeps(load_sam("tiny"), None, spec)


def test_a_choice_that_does_not_hold_on_other_photos_is_called_so(tmp_path: Path) -> None:
    before, after = trial("aop", 0.5, 60), trial("aop(spacing=9)", 0.4, 30)
    for first, second, said in ((before, after, True), (after, before, False)):
        text = write_calibration([before, after], after, (first, second), {}, {}, str(tmp_path))
        assert ("does not carry over to other photos" in text) == said
        assert f"{'-' if said else '+'}10.0 [" in text


def test_a_predictor_that_was_compared_is_that_of_the_configuration() -> None:
    chosen = trial("aop(predictor=/runs/p.safetensors,things=0)", 0.5, 60)
    config = config_of(chosen, {"sam": "tiny", "checkpoint": None, "predictor": "/runs/other.safetensors"})
    assert (config["predictor"], config["strategy_options"]) == ("/runs/p.safetensors", {"things": 0})


def test_values_of_an_option() -> None:
    assert parse_values("threshold=0.1, 2,true") == ("threshold", [0.1, 2, True])
    for text in ("threshold", "=1", "threshold=", "threshold=1,,2"):
        with pytest.raises(ValueError, match="option=value"):
            parse_values(text)


def test_from_photos_to_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(build=lambda: assemble(ToyEncoder()), weights=tmp_path / "toy.safetensors", terms="none")
    monkeypatch.setitem(MODELS, "toy", spec)
    _, predictor = save_random("toy", tmp_path)
    photos = {f"p{n}": (jpeg(n, HW), two_objects()) for n in range(4)} | {"broken": (b"", two_objects())}
    shard = write_shard(tmp_path / "x.tar", photos)
    out = tmp_path / "out"
    arguments = ["--data", shard, "--sam", "toy", "--predictor", predictor, "--threads", "1", "--out", out]
    arguments += [
        "--prompts",
        "grid-3,aop(max_prompts=4)",
        "--sweep",
        "box_nms_thresh=0.5,0.8",
        "min_mask_region_area=9",
    ]
    assert main([str(argument) for argument in arguments]) == 0
    config = LabelConfig.from_file(str(out / "config.yaml"))
    record = json.loads((out / "calibration.json").read_text())
    assert record["chosen"]["setting"] in [trial["setting"] for trial in record["trials"]]
    assert len(record["trials"]) == 5
    assert (config.sam, config.prompts) == ("toy", record["config"]["prompts"])
    assert config.predictor == str(predictor)
    assert len(record["held_out"]) == 2
    text = (out / "table.md").read_text()
    assert "these 2 photos with 4 ground-truth masks, so its figure on them is optimistic" in text
    assert "On 2 other photos" in text
    assert text.count("| → ") == 1
    assert (out / "pareto.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "nowhere.tar"], "nowhere.tar: no shard"),
        (["--sweep", "spiral=1,2", "--prompts", "grid-2"], "spiral"),
        (
            ["--prompts", "grid-2", "--sweep", "box_nms_thresh=0.5", "--at-most-prompts", "3"],
            "grid-2 has the fewest, 4.0",
        ),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    flags: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec(build=lambda: assemble(ToyEncoder()), weights=tmp_path / "toy.safetensors", terms="none")
    monkeypatch.setitem(MODELS, "toy", spec)
    save_random("toy", tmp_path)
    shard = write_shard(tmp_path / "x.tar", {"a": (jpeg(0, HW), two_objects())})
    assert main(["--data", str(shard), "--sam", "toy", "--threads", "1", "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("calibrate: ")
    assert message in error
    assert not (tmp_path / "out").exists()
