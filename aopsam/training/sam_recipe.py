"""Hyper-parameters of a promptable SAM, and the model and optimizer built from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from segment_anything.modeling import Sam
from torch import nn

from aopsam._options import Count, Limits, Share
from aopsam.sam.encoders.tiny import TinyEncoder
from aopsam.sam.model import assemble
from aopsam.training.affinity import Affinity
from aopsam.training.initial_decoder.program import start_decoder, start_descriptors
from aopsam.training.task import Recipe

FRAME_PX = 512
"""Side of the padded square that the model reads, in pixels."""

LEVEL_RATE = 0.02
"""Peak learning rate of the auxiliary loss's six scalars, which change more than weights do."""


@dataclass(frozen=True, kw_only=True)
class SamRecipe(Recipe):
    """Hyper-parameters of a promptable SAM; the defaults are those of the shipped `tiny`.

    Attributes:
        dense_steps: first steps, which train the encoder's descriptors and edges alone, without the decoder.
        dense_windows: windows a step of those.
        windows: windows a step after that.
        window_px: side of a window in frame pixels.
        frames: whole frames a step, in a step that takes frames.
        frame_share: share of steps on whole frames, before and after `late`.
        late: progress in [0, 1] of the run from which the second value of such pairs is used.
        prompts: most prompts of a window.
        frame_prompts: most prompts of a whole frame.
        scale: smallest and largest size of a photo relative to the frame, for windows.
        frame_scale: the same for whole frames.
        box_share: share of box prompts.
        correction_share: share of steps with a second round of prompts, before and after `late`.
        others: weight of the mean loss over the three alternatives; the best one has weight 1.
        affinity: weight of the encoder's dense auxiliary loss; the decoder's loss has weight 1.
        edge_loss: weight of the edge head's cross entropy with its teacher's edges.
        estimate: weight of the IoU estimates' squared error.
        encoder_rate: peak learning rate of the image encoder, in the dense steps and after them.
        trunk_share: learning rate of the encoder's trunk, which begins trained, relative to the rest of the encoder.
        decoder_rate: peak learning rate of prompt encoder and mask decoder; 5e-4 destroys their initial weights
            (benchmarks/LOG.md).
        estimate_rate: peak learning rate of the head that estimates IoU, whose weights begin at random.
        warmup: steps of linear warm-up.
        cooldown: last share of the run in which the rates fall linearly to zero.
        weight_decay: AdamW's, on matrices and kernels.
    """

    steps: Count = 3900
    average: Share = 0.998
    dense_steps: Annotated[int, Limits(0)] = 1500
    dense_windows: int = 16
    windows: Count = 6
    window_px: int = 256
    frames: int = 1
    frame_share: tuple[float, float] = (0.1, 0.3)
    late: float = 0.6
    prompts: int = 12
    frame_prompts: int = 24
    scale: tuple[float, float] = (0.65, 1.6)
    frame_scale: tuple[float, float] = (0.8, 1.0)
    box_share: float = 0.45
    correction_share: tuple[float, float] = (0.0, 0.15)
    others: float = 0.03
    affinity: float = 1.0
    edge_loss: float = 1.0
    estimate: float = 4.0
    encoder_rate: tuple[float, float] = (1e-3, 5e-4)
    trunk_share: float = 0.2
    decoder_rate: float = 8e-5
    estimate_rate: float = 5e-4
    warmup: int = 150
    cooldown: float = 0.4
    weight_decay: float = 0.05
    clip: float | None = 1.0
    precision: Literal["float32", "bfloat16"] = "bfloat16"

    def rates(self, step: int) -> dict[str, float]:
        """Return the learning rates of a step by part of the model: warm-up, constant, linear cool-down."""
        up = min(1.0, (step + 1) / self.warmup)
        left = (self.steps - step) / max(1.0, self.cooldown * self.steps)
        share = min(up, max(0.0, min(1.0, left)))
        encoder = self.encoder_rate[step >= self.dense_steps]
        peaks = {
            "encoder": encoder,
            "trunk": self.trunk_share * encoder,
            "decoder": self.decoder_rate,
            "estimate": self.estimate_rate,
            "levels": LEVEL_RATE,
        }
        return {part: share * peak for part, peak in peaks.items()}


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
