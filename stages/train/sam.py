"""Build the training of a promptable SAM from annotated shards, in any process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch

from aopsam._half_weights import save_half
from aopsam.sam.registry import load_sam
from aopsam.training.finetune import FinetuneTask
from aopsam.training.sam import SamTask
from aopsam.training.sam_recipe import FRAME_PX, SamRecipe
from aopsam.training.thresholds import choose_thresholds
from aopsam.training.windows import least_share
from stages.annotations.held_out import split_photos
from stages.storage.atomic import write_path

THRESHOLD_PHOTOS = 16


@dataclass(frozen=True)
class SamJob:
    """Configuration of a SAM's training: photos, recipe and weights.

    Attributes:
        shards: as `stages.annotations.shards.list_shards` gives them, reachable from every worker.
        recipe: hyper-parameters of one worker; more workers see more windows an update.
        workers: number of workers.
        photos: the most held-out photos to validate on.
        start: file of `tiny`'s weights to begin with, on every node.
    """

    shards: tuple[str, ...]
    recipe: SamRecipe
    workers: int = 1
    photos: int = 12
    start: str | None = None


def sam_task(job: SamJob, on_problem: Callable[[str], None] = lambda line: None) -> SamTask:
    """Build the training task of a SAM.

    Raises:
        ValueError: no annotated photo, no mask that is large enough, or `start` does not hold `tiny`'s weights.
    """
    recipe = job.recipe
    scales = [recipe.scale, recipe.frame_scale] if any(recipe.frame_share) else [recipe.scale]
    least = [least_share(FRAME_PX, scale) for scale in scales]
    training, held_out = split_photos(job.shards, job.photos, on_problem, least)
    start = None if job.start is None else load_sam("tiny", job.start).state_dict()
    return SamTask(training, job.recipe, held_out, start=start, workers=job.workers)


def finish_sam(task: SamTask | FinetuneTask, weights: Mapping[str, torch.Tensor], uri: str) -> dict[str, str]:
    """Choose the thresholds of a trained SAM on some of its photos, and write it in half precision.

    Args:
        task: the training task; its model takes the weights.
        weights: the weights to keep.
        uri: path or fsspec URI of the file.

    Returns:
        The thresholds, as written to the file's metadata.
    """
    sam, photos = task.model.eval(), task.photos
    sam.load_state_dict(weights)
    thresholds = choose_thresholds(sam, photos[:: max(1, len(photos) // THRESHOLD_PHOTOS)])
    facts = {"recipe": json.dumps(asdict(task.recipe)), "photos": str(len(photos))}
    with write_path(uri) as path:
        save_half(sam, path, thresholds | facts)
    return thresholds
