"""Build a thing head's training from annotated shards, in any process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch

from aopsam.sam.things import save_thing_head
from aopsam.training.recipes import ThingHeadRecipe
from aopsam.training.thing_head import NanoDet, ThingHeadTask
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file
from stages.train.frames import FrameJob


@dataclass(frozen=True, kw_only=True)
class ThingHeadJob(FrameJob):
    """Configuration of a thing head's training.

    Attributes:
        teacher: file of NanoDet-g's weights, on every node.
    """

    recipe: ThingHeadRecipe
    teacher: str


def thing_head_task(job: ThingHeadJob, on_problem: Callable[[str], None] = lambda line: None) -> ThingHeadTask:
    """Build the training task of a thing head.

    Raises:
        ValueError: as `FrameJob.read`, or weights that are not NanoDet's.
    """
    teacher = NanoDet.load(local_file(job.teacher))
    sam, photos, apart = job.read(on_problem)
    return ThingHeadTask(photos, job.recipe, sam, teacher, apart, shares=job.shares or None)


def write_thing_head(task: ThingHeadTask, weights: Mapping[str, torch.Tensor], uri: str) -> None:
    """Write a thing head's weights, with the recipe and the photos that it was trained on."""
    task.model.load_state_dict(weights)
    notes = {f"recipe_{name}": str(value) for name, value in asdict(task.recipe).items()}
    with write_path(uri) as path:
        save_thing_head(task.model, path, notes | {"photos": task.pool.describe()})
