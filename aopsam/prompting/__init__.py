"""Prompt strategies, one file each. To add one: a file here and a line in STRATEGIES."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segment_anything.modeling import Sam

from aopsam.predictor.network import PromptPredictor
from aopsam.prompting.aop import AutoPrompts
from aopsam.prompting.attention import PRESETS, Attention
from aopsam.prompting.grid import Grid
from aopsam.prompting.hierarchical import Hierarchical
from aopsam.prompting.oas import ObjectAware
from aopsam.prompting.proposer import Proposer
from aopsam.prompting.random_points import RandomPoints
from aopsam.prompting.strategy import Decoded, Strategy, Trace

__all__ = ["STRATEGIES", "Decoded", "Strategy", "Trace", "make_strategy"]


def _attention(preset: str) -> Callable[..., Strategy]:
    return lambda model, predictor, **options: Attention(model, preset, **options)


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "grid-N": lambda model, predictor, n, **options: Grid.per_side(n, **options),
    "random-N": lambda model, predictor, n, **options: RandomPoints(n, **options),
    "aop": lambda model, predictor, **options: AutoPrompts(Proposer(model, predictor), **options),
    "hierarchical": lambda model, predictor, **options: Hierarchical(**options),
    "oas-box": lambda model, predictor, **options: ObjectAware(model, centers=False, **options),
    "oas-center": lambda model, predictor, **options: ObjectAware(model, centers=True, **options),
    "attention": lambda model, predictor, **options: Attention(model, **options),
    **{f"attention-{preset}": _attention(preset) for preset in PRESETS},
}
"""Name -> factory(model, predictor, [n], **options); a name that ends in `-N` takes a number in its place."""


def make_strategy(name: str, model: Sam, predictor: PromptPredictor | None = None, **options: Any) -> Strategy:
    """The strategy of a name such as `grid-32` or `aop`.

    Args:
        name: a key of STRATEGIES, `N` replaced by a number.
        model: the SAM that will decode.
        predictor: proposes prompts for `aop`; the bundled one by default.
        options: the strategy's own parameters.

    Raises:
        ValueError: no such strategy, or an option that it does not have; the message lists what there is.
    """
    stem, _, number = name.rpartition("-")
    numbered = f"{stem}-N" if number.isascii() and number.isdigit() else name
    if name.endswith("-N") or numbered not in STRATEGIES:
        raise ValueError(f"unknown prompt strategy {name!r}; choose from {', '.join(STRATEGIES)}")
    arguments = (int(number),) if numbered != name else ()
    try:
        return STRATEGIES[numbered](model, predictor, *arguments, **options)
    except TypeError as error:
        raise ValueError(f"prompt strategy {name!r}: {error}") from error
