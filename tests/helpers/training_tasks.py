"""Tasks small enough to see through, built in any process: fit a line, learn the colour of photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from torch import nn

from aopsam.training import stream
from aopsam.training.pool import Pool
from aopsam.training.recipes import Recipe
from aopsam.training.task import Task, Validation
from stages.annotations.held_out import split_photos


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


@dataclass(frozen=True)
class Colours:
    """Mean colours of photos, (N, 3) in [0, 1], and the photos' ids."""

    values: torch.Tensor
    ids: tuple[str, ...]

    def to(self, device: torch.device) -> Colours:
        return self


WINDOW_BYTES = 24_000
"""Some nine photos of `made_shard.jpeg`."""


class Colour(Task):
    """Three numbers that go where the colours of photos of shards are: they tell which photos were drawn."""

    def __init__(self, shards: Sequence[str], recipe: Recipe) -> None:
        self.recipe, self.problems = recipe, list[str]()
        self.photos, self.held_out = split_photos(shards, 3, self.problems.append, seed=recipe.seed)
        self.pool = Pool([self.photos], photos_a_batch=1)
        self.model = nn.Module()
        self.model.colour = nn.Parameter(torch.zeros(3))
        self.heads = nn.ModuleList()

    def __len__(self) -> int:
        return len(self.photos)

    def batch(self, index: int) -> Colours:
        self.pool.move(index)
        photos = self.pool.sources[0]
        places = np.random.default_rng([self.recipe.seed, index]).integers(len(photos), size=2)
        drawn = [photos[int(place)] for place in places]
        means = torch.from_numpy(np.stack([photo.rgb.mean((0, 1)) / 255 for photo in drawn])).float()
        return Colours(means, tuple(photo.id for photo in drawn))

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([{"params": self.model.parameters(), "part": "all"}], lr=0.0)

    def rates(self, step: int) -> Mapping[str, float]:
        return {"all": 0.01}

    def loss(
        self, batch: Colours, step: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        return (self.model.colour - batch.values).square().mean(), {}


def small_window(shards: Sequence[str], recipe: Recipe) -> Colour:
    """Build a `Colour` in a worker, whose window is then as small."""
    stream.WINDOW_BYTES = WINDOW_BYTES
    return Colour(shards, recipe)


def cannot_build() -> NoReturn:
    """Stands for what goes wrong in a worker alone, such as a file that is not on its node."""
    raise OSError("no such file on this node: maps")
