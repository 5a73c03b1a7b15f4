"""Build a mask head's training from annotated shards, in any process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from aopsam.mask_head.weights import find_mask_head, save_mask_head
from aopsam.sam.registry import load_sam
from aopsam.training.build_sam import FRAME_PX
from aopsam.training.mask_head import MaskHeadTask
from aopsam.training.recipes import MaskHeadRecipe
from aopsam.training.windows import least_share
from stages.annotations.held_out import split_sources
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file


@dataclass(frozen=True)
class MaskHeadJob:
    """Configuration of a mask head's training.

    Attributes:
        sources: of each source of annotated photos its shards, as `stages.annotations.shards.list_shards` gives them,
            reachable from every worker.
        recipe: hyper-parameters.
        shares: how often a photo of each source is drawn, relative to the others; empty for all alike.
        checkpoint: file of `tiny`'s weights, on every node; None for the bundled ones.
        start: file of a mask head of those weights to begin with, on every node; None for an untrained one.
        photos: the most held-out photos to validate on.
    """

    sources: tuple[tuple[str, ...], ...]
    recipe: MaskHeadRecipe
    shares: tuple[float, ...] = ()
    checkpoint: str | None = None
    start: str | None = None
    photos: int = 24


def mask_head_task(job: MaskHeadJob, on_problem: Callable[[str], None] = lambda line: None) -> MaskHeadTask:
    """Build the training task of a mask head.

    Raises:
        ValueError: shares that do not fit the sources, no annotated photo, no mask that is large enough, weights that
            are not those of `tiny`, or a mask head of others.
        FileNotFoundError: no such mask head.
    """
    if job.shares and len(job.shares) != len(job.sources):
        raise ValueError(f"--shares has {len(job.shares)} numbers and --data {len(job.sources)}; give one for each")
    if wrong := [share for share in job.shares if not 0.01 <= share <= 100]:
        raise ValueError(f"a share of {wrong[0]}: --shares lie between 0.01 and 100")
    sam, least = load_sam("tiny", local_file(job.checkpoint)), least_share(FRAME_PX, job.recipe.scale)
    photos, held_out = split_sources(job.sources, job.photos, on_problem, [least], job.recipe.seed)
    apart = [photo for source in held_out for photo in source.take(np.flatnonzero(source.largest >= least))]
    start = None if job.start is None else find_mask_head(sam, local_file(job.start))
    return MaskHeadTask(photos, job.recipe, sam, apart, shares=job.shares or None, start=start)


def write_mask_head(task: MaskHeadTask, weights: Mapping[str, torch.Tensor], uri: str) -> None:
    """Write a mask head's weights, with the recipe and the photos that it was trained on."""
    task.model.load_state_dict(weights)
    notes = {f"recipe_{name}": str(value) for name, value in asdict(task.recipe).items()}
    with write_path(uri) as path:
        save_mask_head(task.model, path, notes | {"photos": task.pool.describe()})
