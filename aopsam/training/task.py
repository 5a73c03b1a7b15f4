"""Base classes of recipes and tasks: batches, loss, learning rates and validation for the loop in `trainer.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import nn

from aopsam.training.pool import Pool
from aopsam.training.recipes import Recipe


class Batch(Protocol):
    """Batch that a task's loss reads."""

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""


@dataclass(frozen=True)
class Validation:
    """Quality of the averaged weights on held-out data.

    Attributes:
        score: number that the best weights are chosen by; higher is better.
        figures: figures for the logs, by name.
        pictures: (H, W, 3) uint8 pictures, by name.
    """

    score: float
    figures: Mapping[str, float]
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


class Task(ABC):
    """One kind of training: model, data, loss, learning rates and validation.

    Attributes:
        recipe: hyper-parameters; a checkpoint whose recipe differs in more than `steps` is refused.
        model: module that is trained and kept, on the CPU; its initial weights depend only on the recipe.
        heads: modules that are trained with it and discarded.
        pool: photos that batches draw from, where they are read from shards.
    """

    recipe: Recipe
    model: nn.Module
    heads: nn.Module
    pool: Pool | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return the batches of an epoch, which shows every sample about once."""

    @abstractmethod
    def batch(self, index: int) -> Batch:
        """Return batch number `index` of an endless run, which depends only on the seed, this number, and with a pool
        on the number of batches of an update.

        Workers and resumed runs share the numbers, so that together they read what one unbroken worker would read.
        Called in another process, on the CPU; uses neither the model nor a global random generator.
        """

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer of the trainable parameters of model and heads; every group names its `part`."""

    @abstractmethod
    def rates(self, step: int) -> Mapping[str, float]:
        """Return the learning rates of an update by `part`."""

    @abstractmethod
    def loss(
        self, batch: Any, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the scalar loss of one batch on the model's device, and scalars for the logs.

        Args:
            batch: of `batch`, on the model's device.
            step: number of the update.
            generator: source of all random draws, on the CPU; depends only on the seed and the batch's number.
        """

    def validate(self, model: nn.Module) -> Validation | None:
        """Validate averaged weights, in eval mode on the training device; None without held-out data."""
        return None


def cosine(step: int, steps: int, warmup: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then half a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def shuffled(count: int, seed: int, start: int, length: int) -> list[int]:
    """Return samples `start` to `start + length` of an endless stream of shuffled epochs of `count` samples."""
    places = (divmod(position, count) for position in range(start, start + length))
    return [int(_order(count, seed, epoch)[place]) for epoch, place in places]


@lru_cache(maxsize=4)  # of a million samples it takes 20 ms, and every batch asks for one
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
