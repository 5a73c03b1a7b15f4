"""Apple GPUs have no float64: no tensor of that kind is made between a photo and its masks, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aopsam.everything.generator import AutoMaskGenerator
from aopsam.masks.full_size import trace_full_size
from aopsam.sam.decode import upscale
from aopsam.sam.encode import encode


class NoFloat64(TorchDispatchMode):
    """Refuses operations that take or give float64."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, made)):
            assert not isinstance(leaf, torch.Tensor) or leaf.dtype != torch.float64, func
        return made


@pytest.mark.parametrize(
    ("prompts", "strategy_options", "options"),
    [
        ("grid-2", {}, {"crop_n_layers": 1}),
        ("random-4", {}, {"tile_size": 200}),
        ("aop", {"max_decoded": 8, "round_size": 4}, {"refine": "formula"}),
        ("aop", {"elimination": "diverse", "max_decoded": 4}, {"duplicates": "merge"}),
        ("aop", {"elimination": "scaled", "max_decoded": 8}, {}),
        ("hierarchical", {"sparse": 2, "dense": 3}, {}),
        ("oas-box", {"max_boxes": 4}, {"refine": "prose"}),
        ("oas-center", {"max_boxes": 4}, {}),
        ("attention", {"max_prompts": 3}, {}),
    ],
)
def test_masks_are_made_without_it(
    tiny: Sam, scene: np.ndarray, prompts: str, strategy_options: dict[str, Any], options: dict[str, Any]
) -> None:
    generator = AutoMaskGenerator(tiny, prompts=prompts, strategy_options=strategy_options, **options)
    with NoFloat64():
        assert generator.generate(scene)


def test_full_size_masks_are_made_without_it(small_sam: Sam, scene: np.ndarray) -> None:
    photo = encode(small_sam, scene)
    with NoFloat64():
        logits = upscale(photo, torch.randn(2, 32, 32))
        assert len(trace_full_size(logits, threshold=0.0, offset=1.0, least_stability=0.0)) == 2
