"""Every option at odd values through a file of settings, YAML and JSON: refused in one line, or sound."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from segment_anything.modeling import Sam

from aopsam._options import options_of
from aopsam.everything.options import GeneratorOptions
from aopsam.prompting import STRATEGIES, Strategy, make_strategy
from pipelines.label_corpus import main
from stages.config.label_config import LabelConfig
from tests.aopsam.test_options import ODD

OPTIONS = sorted(options_of(LabelConfig).keys() - {"options"} | options_of(GeneratorOptions).keys())
VALUES = (*ODD, "1e-3", "", [1], {"a": 1}, [[]], 10**400, -(2**63), -0.0, 1e300)


def files_of(folder: Path, settings: dict[Any, Any]) -> list[Path]:
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    (folder / "run.json").write_text(json.dumps(settings))
    return [folder / "run.yaml", folder / "run.json"]


def told_apart(value: Any) -> Any:
    """The number that a text is, where it is one."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def outcome(make: Callable[[], Any]) -> Any:
    """Return what is made, or the line that is said instead."""
    try:
        return make()
    except (ValueError, FileNotFoundError) as error:
        return str(error)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_odd_value_in_a_file_of_settings_is_refused_in_a_line_or_taken_as_it_is(tmp_path: Path, name: str) -> None:
    for value in VALUES:
        for file in files_of(tmp_path, {name: value}):
            config = outcome(partial(LabelConfig.from_file, str(file)))
            if isinstance(config, str):
                assert config.startswith(f"{file}: {name}")
                assert "\n" not in config
                continue
            taken = getattr(config.options if hasattr(config.options, name) else config, name)
            # NaN and 1e+300 are text in JSON that is read as YAML, and text is a name of a model or a file.
            assert isinstance(taken, str) or taken in (value, told_apart(value))
            assert not isinstance(taken, int) or taken < 2**63
            json.dumps(config.as_dict(), allow_nan=False)


@pytest.mark.parametrize("strategy", ["aop", "hierarchical", "random-2", "oas-box"])
def test_an_odd_option_of_a_strategy_in_a_file_is_refused_or_taken(tiny: Sam, tmp_path: Path, strategy: str) -> None:
    def make(file: Path) -> Strategy:
        return make_strategy(strategy, tiny, **LabelConfig.from_file(str(file)).strategy_options)

    for name in options_of(STRATEGIES[strategy.replace("-2", "-N")]):
        for value in (math.nan, 2**70, "1e-3", [1]):
            file, _ = files_of(tmp_path, {"prompts": strategy, "strategy_options": {name: value}})
            made = outcome(partial(make, file))
            if isinstance(made, str):
                assert name in made or str(value) in made
                assert "\n" not in made
            else:
                assert value == "1e-3"


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "checkpoint"])
def test_a_bad_setting_ends_the_command_with_a_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for file in files_of(tmp_path, {name: [1]}):
        assert main(["--images", str(tmp_path), "--out", str(tmp_path / "out"), "--config", str(file)]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"label_corpus: {file}: {name}=[1]; ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1: 2", "unknown option 1; choose from"),
        ("~: 2", "unknown option None; choose from"),
        ("pred-iou-thresh: 0.5", "did you mean pred_iou_thresh?"),
        ("Pred_IoU_Thresh: 0.5", "did you mean pred_iou_thresh?"),
        ("strategy_options: {1: 2}", "strategy_options 1: 2; expected a name and a plain value"),
        ("strategy_options: {k: [1]}", "strategy_options 'k': [1]; expected a name and a plain value"),
        ("strategy_options: &all {k: *all}", "expected a name and a plain value"),
        ("points_per_batch: " + "9" * 5000, "not YAML or JSON (Exceeds the limit"),
        ("points_per_batch: 2020-13-45", "not YAML or JSON (month must be"),
        ("points_per_batch: 9223372036854775808", "expected a whole number of at least 1, below 2^63"),
        ("[" * 2000, "not YAML or JSON"),
        ("[]", "expected a mapping of settings, found list"),
        ("0", "expected a mapping of settings, found int"),
    ],
)
def test_a_file_that_is_no_list_of_settings_is_a_line_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"run\.yaml: ") as caught:
        LabelConfig.from_file(f"{tmp_path}/run.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/run.yaml: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_strategies_of_no_name_are_refused(tiny: Sam) -> None:
    with pytest.raises(ValueError, match="unknown prompt strategy ''"):
        make_strategy("", tiny)
