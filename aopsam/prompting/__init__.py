"""Prompt strategies, one file each. To add one: a file here and a line in STRATEGIES."""

from __future__ import annotations

from typing import Any

from segment_anything.modeling import Sam

from aopsam._options import checked, options_of, unknown
from aopsam.predictor.network import PromptPredictor
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.attention import Attention, HighQuality, Sam1, Sam3d
from aopsam.prompting.grid import Grid
from aopsam.prompting.hierarchical import Hierarchical
from aopsam.prompting.oas import ObjectBoxes, ObjectCenters
from aopsam.prompting.random_points import RandomPoints
from aopsam.prompting.strategy import Context, Decoded, Strategy

__all__ = ["STRATEGIES", "Decoded", "Strategy", "find_strategy", "make_strategy"]

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
    """Return the class of a name such as `grid-32` or `aop`, and the number in the name (0 where it has none).

    Raises:
        ValueError: no such strategy; the message lists what there is.
    """
    stem, _, digits = name.rpartition("-")
    if digits.isascii() and digits.isdigit() and f"{stem}-N" in STRATEGIES:
        return STRATEGIES[f"{stem}-N"], int(digits)
    if name not in STRATEGIES or name.endswith("-N"):
        raise ValueError(f"unknown prompt strategy {unknown(name, STRATEGIES)}")
    return STRATEGIES[name], 0


def make_strategy(name: str, model: Sam, predictor: PromptPredictor | None = None, **options: Any) -> Strategy:
    """Return the strategy of a name such as `grid-32` or `aop`.

    Args:
        name: a key of STRATEGIES, `N` replaced by a number.
        model: the SAM that will decode.
        predictor: proposes prompts for `aop`; the bundled one by default.
        options: the strategy's own parameters.

    Raises:
        ValueError: no such strategy, an option that it does not have, or a value that does not fit; it says what would
            be right.
    """
    strategy, number = find_strategy(name)
    options = checked(options_of(strategy), options, f"prompt strategy {name}")
    return strategy.make(Context(model, predictor, number), **options)
