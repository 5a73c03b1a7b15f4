"""Strategies as written on a command line: `aop,aop(adaptive_filtering=false),grid-16`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aopsam._options import checked, is_file, options_of
from aopsam.everything.options import WEIGHTS, GeneratorOptions
from aopsam.prompting import PRESETS, find_strategy
from stages.storage.fetched import local_file
from stages.storage.location import absolute

Option = bool | int | float | str

_SPEC = re.compile(r"\s*(?P<name>[a-z0-9][a-z0-9-]*)\s*(?:\((?P<options>[^()]*)\))?\s*")
_OPTION = re.compile(r"\s*(?P<key>[a-z_][a-z0-9_]*)\s*=\s*(?P<value>[A-Za-z0-9_.+~/:@-]+)\s*")
_INTEGER, _NUMBER = re.compile(r"[+-]?\d+"), re.compile(r"[+-]?(\d+\.\d*|\.?\d+)([eE][+-]?\d+)?")

PREDICTOR = "predictor"
"""Option by which predictors are compared, and one is named in brackets: `aop(predictor=REGISTRY@3)`."""

GENERATOR_OPTIONS = options_of(GeneratorOptions)
"""Options of what happens after prompting, whatever the strategy: thresholds, duplicates, crops; with their types."""


@dataclass(frozen=True)
class StrategySpec:
    """One strategy with its options.

    Attributes:
        text: as it stands in tables; without spaces.
        name: of the strategy, for example `aop` or `grid-16`.
        options: keyword arguments of the strategy and, where they are in `GENERATOR_OPTIONS`, of the generator.
    """

    text: str
    name: str
    options: dict[str, Option] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, options: dict[str, Option]) -> StrategySpec:
        """Build a strategy with the text that would be written for it."""
        written = ",".join(f"{key}={_shown(value)}" for key, value in options.items())
        return cls(f"{name}({written})" if written else name, name, options)

    @property
    def strategy_options(self) -> dict[str, Any]:
        """Options of the strategy itself."""
        return {key: value for key, value in self.options.items() if key not in GENERATOR_OPTIONS}

    @property
    def generator_options(self) -> dict[str, Any]:
        """Options of everything mode (`GeneratorOptions`)."""
        return {key: value for key, value in self.options.items() if key in GENERATOR_OPTIONS}


def parse_strategies(text: str) -> list[StrategySpec]:
    """Read a comma-separated list of strategies, each with options in brackets or without.

    A value is `true`, `false`, a whole number, a decimal number or else a word; nothing is evaluated.

    Raises:
        ValueError: the list is empty, holds one strategy twice, or an entry is not `name` or `name(key=value, …)`.
    """
    specs = [_spec(entry) for entry in re.split(r",(?![^()]*\))", text)]
    for index, spec in enumerate(specs):
        if spec.text in {earlier.text for earlier in specs[:index]}:
            raise ValueError(f"strategy {spec.text!r} is named twice")
    return specs


def _spec(entry: str) -> StrategySpec:
    match = _SPEC.fullmatch(entry)
    if match is None:
        raise ValueError(f"{entry.strip()!r} is not a strategy; write name or name(key=value,key=value)")
    name, options = match["name"], {}
    hints = _options_of(name)
    for part in filter(str.strip, (match["options"] or "").split(",")):
        option = _OPTION.fullmatch(part)
        if option is None:
            raise ValueError(f"{part.strip()!r} in {entry.strip()!r} is not an option; write key=value")
        key, value = option["key"], _value(option["value"])
        if key in GENERATOR_OPTIONS:
            checked(GENERATOR_OPTIONS, {key: value}, entry.strip())
        # Workers run in folders of their own.
        is_path = is_file(hints.get(key)) or key in (PREDICTOR, *WEIGHTS)
        options[key] = absolute(option["value"]) if is_path else value
    return StrategySpec("".join(entry.split()), name, options)


def preset_values(specs: Sequence[StrategySpec]) -> dict[str, dict[str, Any]]:
    """Return name → strategy and options of the presets among strategies: what a record must hold beside the names."""
    presets = {spec.name: PRESETS[spec.name] for spec in specs if spec.name in PRESETS}
    return {name: {"prompts": of.strategy} | dict(of.options) | dict(of.after) for name, of in presets.items()}


def options_here(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a strategy, those that name files with paths on this machine (`local_file`)."""
    hints = _options_of(name)
    files = {key for key, value in options.items() if is_file(hints.get(key)) and isinstance(value, str)}
    return {key: local_file(value) if key in files else value for key, value in options.items()}


def _options_of(name: str) -> Mapping[str, Any]:
    """Return the options of a strategy with their types; none where evaluations know it alone (`gt-point`)."""
    try:
        return options_of(find_strategy(name)[0])
    except ValueError:
        return {}


def _value(text: str) -> Option:
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def add_sweeps(specs: Sequence[StrategySpec], sweeps: Sequence[str]) -> list[StrategySpec]:
    """Return strategies and those of the sweeps, each once. Errors as for `expand_sweep`."""
    found = {spec.text: spec for spec in specs}
    for sweep in sweeps:
        found |= {spec.text: spec for spec in expand_sweep(sweep)}
    return list(found.values())


def expand_sweep(text: str) -> list[StrategySpec]:
    """Return strategies that differ in one option: `aop:threshold=0.1,0.2` or `aop(k=1.3):spacing=4,6`.

    Raises:
        ValueError: not `strategy:option=value,value`, or a strategy that could not be written in `--prompts`.
    """
    strategy, _, option = text.rpartition(":")
    key, equals, values = option.partition("=")
    if not strategy.strip() or not equals or not all(value.strip() for value in values.split(",")):
        raise ValueError(f"{text!r} is not a sweep; write strategy:option=value,value")
    base = strategy.strip()
    opened = f"{base[:-1]}," if base.endswith(")") else f"{base}("
    return [spec for value in values.split(",") for spec in parse_strategies(f"{opened}{key.strip()}={value.strip()})")]


def parse_values(text: str) -> tuple[str, list[Option]]:
    """Parse an option and its values: `threshold=0.1,0.2`.

    Raises:
        ValueError: it is not written like that.
    """
    key, equals, values = text.partition("=")
    if not key.strip() or not equals or not all(value.strip() for value in values.split(",")):
        raise ValueError(f"{text!r} is no option with values; write option=value,value")
    return key.strip(), [_value(value.strip()) for value in values.split(",")]


def find_sweeps(specs: Sequence[StrategySpec], least: int = 3) -> dict[str, list[StrategySpec]]:
    """Return groups of at least `least` strategies that differ in one option's number alone, by the option's name."""
    groups: dict[str, list[StrategySpec]] = defaultdict(list)
    for spec in specs:
        for key, value in spec.options.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                others = ",".join(
                    f"{name}={_shown(other)}" for name, other in sorted(spec.options.items()) if name != key
                )
                groups[f"{spec.name}{f'({others})' if others else ''}: {key}"].append(spec)
    return {
        title: sorted(group, key=lambda spec: spec.options[title.rpartition(": ")[2]])
        for title, group in groups.items()
        if len(group) >= least
    }


def _shown(value: Option) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
