"""The untrained promptable SAM of a recipe, and the optimizer that trains it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from segment_anything.modeling import Sam
from torch import nn

from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.training.affinity import Affinity
from aopsam.training.initial_decoder.program import start_decoder, start_descriptors
from aopsam.training.recipes import SamRecipe

FRAME_PX = 512
"""Side of the padded square that the model reads, in pixels."""


def build_sam(recipe: SamRecipe, trunk: Mapping[str, torch.Tensor] | None = None) -> Sam:
    """Build the untrained model of a recipe; the same recipe gives the same weights.

    Args:
        recipe: hyper-parameters.
        trunk: NanoDet's weights, with which the encoder's trunk begins; by default random.

    Raises:
        ValueError: `trunk` does not hold them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        encoder = TinyEncoder(FRAME_PX)
        start_descriptors(encoder)
        sam = assemble(encoder)
    start_decoder(sam, recipe.seed)
    if trunk is not None:
        encoder.trunk.load_nanodet(trunk)
    return sam


def make_optimizer(sam: Sam, affinity: Affinity, recipe: SamRecipe) -> torch.optim.AdamW:
    """Make AdamW; each group's `part` names its rate in `SamRecipe.rates`. Norms, biases and tokens do not decay."""
    parts: dict[str, list[nn.Parameter]] = {"encoder": [], "trunk": [], "decoder": [], "estimate": []}
    for name, parameter in sam.named_parameters():
        parts[_part(name)].append(parameter)
    groups = []
    for part, parameters in parts.items():
        kernels = [p for p in parameters if p.ndim > 1 and p.shape[0] > 4]
        rest = [p for p in parameters if not (p.ndim > 1 and p.shape[0] > 4)]
        groups.append({"params": kernels, "weight_decay": recipe.weight_decay, "part": part})
        groups.append({"params": rest, "weight_decay": 0.0, "part": part})
    groups.append({"params": list(affinity.parameters()), "weight_decay": 0.0, "part": "levels"})
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), foreach=True)


def _part(name: str) -> str:
    """Return the part of the model, as in `SamRecipe.rates`, that a parameter belongs to."""
    if "iou_prediction_head" in name:
        return "estimate"
    if name.startswith("image_encoder."):
        return "trunk" if name.startswith("image_encoder.trunk.") else "encoder"
    return "decoder"
