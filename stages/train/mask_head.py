"""Build a mask head's training from annotated shards, in any process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch

from aopsam.mask_head.weights import find_mask_head, save_mask_head
from aopsam.training.mask_head import MaskHeadTask
from aopsam.training.recipes import MaskHeadRecipe
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file
from stages.train.frames import FrameJob


@dataclass(frozen=True, kw_only=True)
class MaskHeadJob(FrameJob):
    """Configuration of a mask head's training.

    Attributes:
        start: file of a mask head of those weights to begin with, on every node; None for an untrained one.
    """

    recipe: MaskHeadRecipe
    start: str | None = None


def mask_head_task(job: MaskHeadJob, on_problem: Callable[[str], None] = lambda line: None) -> MaskHeadTask:
    """Build the training task of a mask head.

    Raises:
        ValueError: as `FrameJob.read`, or a mask head of other weights.
        FileNotFoundError: no such mask head.
    """
    sam, photos, apart = job.read(on_problem)
    start = None if job.start is None else find_mask_head(sam, local_file(job.start))
    return MaskHeadTask(photos, job.recipe, sam, apart, shares=job.shares or None, start=start)


def write_mask_head(task: MaskHeadTask, weights: Mapping[str, torch.Tensor], uri: str) -> None:
    """Write a mask head's weights, with the recipe and the photos that it was trained on."""
    task.model.load_state_dict(weights)
    notes = {f"recipe_{name}": str(value) for name, value in asdict(task.recipe).items()}
    with write_path(uri) as path:
        save_mask_head(task.model, path, notes | {"photos": task.pool.describe()})
