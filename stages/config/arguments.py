"""Command-line arguments that several pipelines share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from aopsam.sam.registry import MODELS
from stages.config.label_config import LabelConfig
from stages.config.strategy_spec import parse_strategies


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """What decides which masks come out. A flag wins over the file of --config."""
    parser.add_argument("--sam", help=f"model: tiny (default), {', '.join(list(MODELS)[1:])}")
    parser.add_argument("--checkpoint", type=absolute, help="weights of the model, where not the official or bundled")
    parser.add_argument("--predictor", type=absolute, help="weights of the prompt predictor, where not the bundled")
    parser.add_argument(
        "--prompts",
        help="prompt strategy: aop (default), grid-N, random-N, hierarchical, oas-box, oas-center, attention-PRESET;"
        ' with options as in "oas-box(detector=FILE)"',
    )
    parser.add_argument("--config", help="YAML or JSON file with any field of LabelConfig (stages/config/)")


def label_config(arguments: argparse.Namespace) -> LabelConfig:
    """The configuration that flags and file describe.

    Raises:
        ValueError: the file is no mapping, or holds an unknown key or a wrong value.
        OSError: the file cannot be read.
    """
    values: dict[str, Any] = {}
    source = "arguments"
    if arguments.config is not None:
        source = arguments.config
        try:
            values = yaml.safe_load(Path(source).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{source}: not YAML or JSON ({' '.join(str(error).split())})") from error
        if not isinstance(values, dict):
            raise ValueError(f"{source}: expected a mapping of settings, found {type(values).__name__}")
    flags = {name: getattr(arguments, name) for name in ("sam", "checkpoint", "predictor", "prompts")}
    values |= {name: value for name, value in flags.items() if value is not None}
    if "(" in (arguments.prompts or ""):
        spec, *more = parse_strategies(arguments.prompts)
        if more:
            raise ValueError(f"--prompts {arguments.prompts}: a corpus is labelled with one strategy")
        values |= {"prompts": spec.name, "strategy_options": spec.strategy_options} | spec.generator_options
    return LabelConfig.from_mapping(values, source)


def absolute(uri: str) -> str:
    """A local path made absolute, since workers run in folders of their own; any other URI as it is."""
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def share(text: str) -> float:
    """A number between 0 and 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
