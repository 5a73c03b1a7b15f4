"""Prompt strategies, one file each, and presets of papers. To add a strategy: a file here and a line in STRATEGIES."""

from __future__ import annotations

from typing import Any

from segment_anything.modeling import Sam

from aopsam._options import checked, options_of, unknown
from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.weights import load_predictor
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.attention import Attention, HighQuality, Sam1, Sam3d
from aopsam.prompting.fates import Fates
from aopsam.prompting.grid import Grid
from aopsam.prompting.hierarchical import Hierarchical
from aopsam.prompting.oas import ObjectBoxes, ObjectCenters
from aopsam.prompting.presets import PRESETS
from aopsam.prompting.random_points import RandomPoints
from aopsam.prompting.strategy import Context, Decoded, Strategy

__all__ = ["PRESETS", "STRATEGIES", "Decoded", "Fates", "Strategy", "find_strategy", "make_strategy"]

STRATEGIES: dict[str, type[Strategy]] = {
    "grid-N": Grid,
    "random-N": RandomPoints,
    "aop": AutoPrompts,
    "hierarchical": Hierarchical,
    "oas-box": ObjectBoxes,
    "oas-center": ObjectCenters,
    "attention": Attention,
    "attention-low-latency": Attention,
    "attention-high-quality": HighQuality,
    "attention-sam3d": Sam3d,
    "attention-sam1": Sam1,
}
"""Name -> class; a name that ends in `-N` takes a number in its place."""


def find_strategy(name: str) -> tuple[type[Strategy], int]:
    """Return the class of a name such as `grid-32`, `aop` or `aop-paper`, and the number in it (0 where it has none).

    Raises:
        ValueError: no such strategy; the message lists what there is.
    """
    if name in PRESETS:
        name = PRESETS[name].strategy
    stem, _, digits = name.rpartition("-")
    if digits.isascii() and digits.isdigit() and f"{stem}-N" in STRATEGIES:
        return STRATEGIES[f"{stem}-N"], int(digits)
    if name not in STRATEGIES or name.endswith("-N"):
        raise ValueError(f"unknown prompt strategy {unknown(name, [*STRATEGIES, *PRESETS])}")
    return STRATEGIES[name], 0


def make_strategy(name: str, model: Sam, predictor: PromptPredictor | None = None, **options: Any) -> Strategy:
    """Return the strategy of a name such as `grid-32` or `aop`, or that of a preset.

    Args:
        name: a key of STRATEGIES, `N` replaced by a number, or of PRESETS; what a preset says of everything mode is
            `AutoMaskGenerator`'s.
        model: the SAM that will decode.
        predictor: proposes prompts for `aop`; by default the bundled one, or the preset's.
        options: the strategy's own parameters; they win over a preset's.

    Raises:
        ValueError: no such strategy, an option that it does not have, or a value that does not fit; it says what would
            be right.
        FileNotFoundError: weights of a preset that are not there.
    """
    strategy, number = find_strategy(name)
    if (preset := PRESETS.get(name)) is not None:
        own = {} if preset.detector is None else {"detector": preset.detector}
        options = own | preset.strategy_options(options)
        if predictor is None and preset.predictor is not None:
            predictor = load_predictor(preset.predictor)
    options = checked(options_of(strategy), options, f"prompt strategy {name}")
    return strategy.make(Context(model, predictor, number), **options)
