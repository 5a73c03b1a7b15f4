"""A task small enough to see through, built in any process: fit a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import nn

from aopsam.training.task import Recipe, Task, Validation


@dataclass(frozen=True)
class Points:
    x: torch.Tensor
    y: torch.Tensor

    def to(self, device: torch.device) -> Points:
        return self


class Line(Task):
    """y = 3x - 1 with noise, dropout in the model and a throw-away head: everything that draws or is kept."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.model = nn.Sequential(
                nn.Linear(1, 8),
                nn.BatchNorm1d(8),
                nn.Dropout(0.2),
                nn.Linear(8, 1),
            )
            self.heads = nn.Linear(1, 1)

    def __len__(self) -> int:
        return 4

    def batch(self, index: int) -> Points:
        x = torch.rand(16, 1, generator=torch.Generator().manual_seed(index))
        return Points(x, 3 * x - 1)

    def optimizer(self) -> torch.optim.Optimizer:
        groups = [{"params": part.parameters(), "part": "all"} for part in (self.model, self.heads)]
        # Not Adam: what stands before a norm has noise for a gradient, of which Adam makes steps.
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9)

    def rates(self, step: int) -> Mapping[str, float]:
        return {"all": 0.02}

    def loss(
        self, batch: Points, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        noise = 0.01 * torch.randn(batch.y.shape, generator=generator)
        answer = self.heads(self.model(batch.x))
        return (answer - batch.y - noise).square().mean(), {"answer": answer.mean()}

    def validate(self, model: nn.Module) -> Validation | None:
        weight = float(model.state_dict()["3.weight"].sum())
        return Validation(weight, {"weight": weight})


def cannot_build() -> NoReturn:
    """Stands for what goes wrong in a worker alone, such as a file that is not on its node."""
    raise OSError("no such file on this node: maps")
