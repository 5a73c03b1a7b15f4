"""Hyper-parameters of the trainings; without torch, for command lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from aopsam._options import Count, Limits, Share, check

if TYPE_CHECKING:
    import torch

LEVEL_RATE = 0.02
"""Peak learning rate of the auxiliary loss's six scalars, which change more than weights do."""

MapLoss = Literal["mse", "cross-entropy", "focal"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyper-parameters of every training; each kind adds its own.

    Attributes:
        seed: seed of the initial weights, the order of the data, and all random draws.
        steps: updates of the weights.
        accumulate: batches per update on each worker; N workers with accumulate 1 read the same as one with N.
        average: decay of the moving average of the weights; the average is kept.
        clip: largest norm of an update's gradient; None for no limit.
        precision: number format of the forward pass; weights, gradients and averages stay float32. `auto` is bfloat16
            where the device multiplies it (`aopsam.sam.encode.precision_dtype`), else float32: several times quicker
            on a CPU that only imitates bfloat16.

    Raises:
        ValueError: a value of the wrong type or out of its limits.
    """

    seed: int = 0
    steps: Count = 1000
    accumulate: Count = 1
    average: Share = 0.999
    clip: float | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check(self)

    def mixed(self, device: torch.device) -> torch.autocast:
        """Return the autocast context of the forward pass on a device."""
        import torch

        from aopsam.sam.encode import precision_dtype

        half = precision_dtype(self.precision, device) is torch.bfloat16
        return torch.autocast(device.type, torch.bfloat16, enabled=half)


@dataclass(frozen=True, kw_only=True)
class PredictorRecipe(Recipe):
    """Hyper-parameters of the Prompt Predictor.

    The paper: MSE, Adam, gradient accumulation, 1000 epochs; it does not state the learning rate. With the kernels
    here, the map of one seed in six becomes 0 everywhere under MSE, that of none under cross entropy
    (benchmarks/LOG.md).

    Attributes:
        batch: rows in memory at once on each worker.
        learning_rate: peak learning rate; after a linear warm-up it falls along a cosine to 0.
        warmup: updates of the warm-up.
        loss: a name of `aopsam.training.map_losses.MAP_LOSSES`.
    """

    steps: Count = 500
    accumulate: Count = 2
    average: Share = 0.99
    batch: Count = 8
    learning_rate: float = 2e-3
    warmup: int = 100
    loss: MapLoss = "cross-entropy"


@dataclass(frozen=True, kw_only=True)
class DetectorRecipe(Recipe):
    """Hyper-parameters of the box detector; the measurements behind them are in benchmarks/LOG.md."""

    steps: Count = 1600
    batch: Count = 8
    """Rows of one batch."""
    learning_rate: float = 2e-3
    """Peak learning rate of AdamW; after a linear warm-up it falls along a cosine to 0."""
    warmup: int = 50
    """Updates of the warm-up."""
    weight_decay: float = 0.02
    average: Share = 0.995
    clip: float | None = 10.0
    precision: Precision = "auto"
    box_weight: float = 2.0
    """Weight of the boxes' loss; the scores' loss has weight 1."""
    mask_share: Share = 0.5
    """First share of the updates, which train masks as well as boxes; later ones train boxes only (MobileSAMv2, section
    4.2; the paper does not give the share). Short runs with and without masks measured the same."""
    mask_weight: float = 1.0
    """Weight of the masks' loss in that share."""
    width: int = 64
    """Channels of the detector."""


@dataclass(frozen=True, kw_only=True)
class ScorerRecipe:
    """Hyper-parameters of a scorer."""

    seed: int = 0
    """Seed of the prompts and of the initial weights."""
    prompts: Count = 24
    """Masks of a photo that are asked for, once by a point and once in `boxes` by a box."""
    boxes: Share = 0.3
    """Share of those masks that are asked for by a box, too."""
    free: Annotated[int, Limits(0)] = 16
    """Points anywhere on a photo that is annotated all over."""
    things: Annotated[int, Limits(0)] = 8
    """Boxes of the surest things on such a photo, where a thing head belongs to the SAM."""
    steps: Count = 3000
    """Updates of 256 masks."""
    learning_rate: float = 1e-3
    """Peak; after 100 updates of warm-up it falls along a cosine to 0."""
    weight_decay: float = 0.1
    """AdamW's."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class MaskHeadRecipe(Recipe):
    """Hyper-parameters of a mask head.

    Attributes:
        frames: whole frames of one batch.
        prompts: most prompts of a frame; a frame with few masks gets at most three prompts per mask.
        box_share: share of box prompts.
        scale: smallest and largest size of a photo relative to the frame.
        learning_rate: peak learning rate of AdamW; after a linear warm-up it falls along a cosine to 0.
        warmup: updates of the warm-up.
        weight_decay: AdamW's.
        cross_entropy: weight of the cross entropy; Dice has weight 1.
    """

    steps: Count = 4000
    average: Share = 0.998
    frames: Count = 2
    prompts: Count = 36
    box_share: Share = 0.5
    scale: tuple[float, float] = (0.65, 1.6)
    learning_rate: float = 3e-3
    warmup: int = 50
    weight_decay: float = 0.02
    cross_entropy: float = 0.5
    clip: float | None = 1.0
    precision: Precision = "auto"


@dataclass(frozen=True, kw_only=True)
class ThingHeadRecipe(Recipe):
    """Hyper-parameters of a thing head.

    Attributes:
        frames: frames of one batch.
        scale: smallest and largest size of a photo relative to the frame.
        learning_rate: peak learning rate of AdamW; after a linear warm-up it falls along a cosine to 0.
        warmup: updates of the warm-up.
        weight_decay: AdamW's.
        distances: weight of the divergence of distances; that of scores is 1.
        boxes: weight of 1 - GIoU of the boxes.
    """

    steps: Count = 1000
    average: Share = 0.995
    frames: Count = 8
    scale: tuple[float, float] = (0.6, 1.6)
    learning_rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 0.01
    distances: float = 0.5
    boxes: float = 2.0
    clip: float | None = 20.0


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
    precision: Precision = "auto"

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
