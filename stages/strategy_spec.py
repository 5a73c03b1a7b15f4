"""Strategies as written on a command line: `aop,aop(adaptive_filtering=false),grid-16`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

Option = bool | int | float | str

_SPEC = re.compile(r"\s*(?P<name>[a-z0-9][a-z0-9-]*)\s*(?:\((?P<options>[^()]*)\))?\s*")
_OPTION = re.compile(r"\s*(?P<key>[a-z_][a-z0-9_]*)\s*=\s*(?P<value>[A-Za-z0-9_.+~/-]+)\s*")
_FILES = {"detector"}
"""Options that name a file; made absolute, since workers run in folders of their own."""
_INTEGER, _NUMBER = re.compile(r"[+-]?\d+"), re.compile(r"[+-]?(\d+\.\d*|\.?\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class StrategySpec:
    """One strategy with its options.

    Attributes:
        text: as it stands in tables; without spaces.
        name: of the strategy, for example `aop` or `grid-16`.
        options: keyword arguments of the strategy.
    """

    text: str
    name: str
    options: dict[str, Option] = field(default_factory=dict)


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
    for part in filter(str.strip, (match["options"] or "").split(",")):
        option = _OPTION.fullmatch(part)
        if option is None:
            raise ValueError(f"{part.strip()!r} in {entry.strip()!r} is not an option; write key=value")
        key, value = option["key"], option["value"]
        options[key] = str(Path(value).expanduser().absolute()) if key in _FILES else _value(value)
    return StrategySpec("".join(entry.split()), name, options)


def _value(text: str) -> Option:
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
