"""What one kind of training brings to the loop that all kinds share (`trainer.py`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from torch import nn

from aopsam._options import Count, Share, check


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Hyper-parameters that every training has; each kind adds its own.

    Attributes:
        seed: of the first weights, of the order of the data, and of all that is drawn.
        steps: updates of the weights.
        accumulate: batches to an update on each worker; N workers with accumulate 1 see what one with N sees.
        average: decay of the weights' moving average, which is what is kept.
        clip: largest norm of an update's gradient; None for any.
        precision: what the model computes in; weights, gradients and averages stay float32.

    Raises:
        ValueError: a value of the wrong type or out of its limits.
    """

    seed: int = 0
    steps: Count = 1000
    accumulate: Count = 1
    average: Share = 0.999
    clip: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        check(self)

    def mixed(self, device: torch.device) -> torch.autocast:
        """The context that the model computes in on a device."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


class Batch(Protocol):
    """What a task's loss reads."""

    def to(self, device: torch.device) -> Self:
        """The batch on a device."""


@dataclass(frozen=True)
class Validation:
    """How good the averaged weights are on what was held out.

    Attributes:
        score: what "best" means; the higher, the better.
        figures: by name, for the logs.
        pictures: by name, (H, W, 3) uint8.
    """

    score: float
    figures: Mapping[str, float]
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


class Task(ABC):
    """One kind of training: a model, its data, its loss, its rates, and how it is judged.

    Attributes:
        recipe: hyper-parameters; a checkpoint of another recipe is refused, `steps` apart.
        model: what trains and is kept, on the CPU; its weights are a function of the recipe alone.
        heads: what trains beside it and is thrown away.
    """

    recipe: Recipe
    model: nn.Module
    heads: nn.Module

    @abstractmethod
    def __len__(self) -> int:
        """Batches that show every sample about once: an epoch."""

    @abstractmethod
    def batch(self, index: int) -> Batch:
        """Batch number `index` of an endless run: a function of the seed and this number alone.

        Workers and resumed runs share the numbers, so that all see what one unbroken worker would see. Called in
        another process, on the CPU; uses neither the model nor a global random generator.
        """

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """Over the parameters of model and heads that train; every group names its `part`."""

    @abstractmethod
    def rates(self, step: int) -> Mapping[str, float]:
        """Learning rate of an update by `part`."""

    @abstractmethod
    def loss(
        self, batch: Any, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Scalar loss of one batch on the model's device, and scalars for the logs.

        Args:
            batch: of `batch`, on the model's device.
            step: number of the update.
            generator: on the CPU, a function of the seed and the batch's number; all that is drawn comes from it.
        """

    def validate(self, model: nn.Module) -> Validation | None:
        """Judge averaged weights, in eval mode on the training device; None where nothing is held out."""
        return None


def cosine(step: int, steps: int, warmup: int) -> float:
    """Share of the peak rate: linear warm-up, then half a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def shuffled(count: int, seed: int, start: int, length: int) -> list[int]:
    """Samples `start` to `start + length` of an endless stream of shuffled epochs of `count`."""
    order: dict[int, np.ndarray] = {}
    indices = []
    for position in range(start, start + length):
        epoch, place = divmod(position, count)
        if epoch not in order:
            order[epoch] = np.random.default_rng((seed, epoch)).permutation(count)
        indices.append(int(order[epoch][place]))
    return indices
