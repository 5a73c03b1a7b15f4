"""Build the fine-tuning of a light encoder inside SAM from annotated shards, in any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aopsam.sam.model import StretchedSam
from aopsam.sam.registry import load_sam
from aopsam.training.finetune import BATCH, PAPER, FinetuneRecipe, FinetuneTask
from aopsam.training.recipes import SamRecipe
from aopsam.training.windows import least_share
from stages.annotations.held_out import split_photos
from stages.storage.fetched import local_file
from stages.train.arguments import FinetuneOptions
from stages.train.distillation import accumulated

SHARED = ("seed", "steps", "accumulate", "precision", "windows")
"""Flags of a SAM's recipe that a fine-tuning takes over."""


def finetune_recipe(options: FinetuneOptions, student: str, shared: SamRecipe, workers: int) -> FinetuneRecipe:
    """Return the recipe of a model's fine-tuning; `SHARED` of its values are those of a SAM's recipe.

    Raises:
        ValueError: windows at once that do not make up the paper's batch, or --accumulate beside it.
    """
    values: dict[str, Any] = {name: getattr(shared, name) for name in SHARED}
    values |= {"student": student, "decoder": options.finetune_decoder, "window_px": options.finetune_px}
    if options.finetune_recipe == "ours":
        return FinetuneRecipe(**values)
    if shared.accumulate != 1:
        raise ValueError(f"--finetune-recipe paper accumulates {BATCH} photos by itself: leave out --accumulate")
    return replace(PAPER, **(values | {"accumulate": accumulated(BATCH, shared.windows, workers)}))


@dataclass(frozen=True)
class FinetuneJob:
    """Configuration of a fine-tuning: photos, recipe and weights.

    Attributes:
        shards: as `stages.annotations.shards.list_shards` gives them, reachable from every worker.
        recipe: hyper-parameters; names the model.
        start: file of the whole model's weights, on every node: what distill_encoder.py wrote.
        photos: the most held-out photos to validate on.
    """

    shards: tuple[str, ...]
    recipe: FinetuneRecipe
    start: str
    photos: int = 12


def finetune_task(job: FinetuneJob, on_problem: Callable[[str], None] = lambda line: None) -> FinetuneTask:
    """Build the fine-tuning task of a student.

    Raises:
        ValueError: no annotated photo, no mask that is large enough, or weights that are none of the recipe's model.
    """
    sam = load_sam(job.recipe.student, local_file(job.start))
    own, drawn = sam.image_encoder.img_size, job.recipe.window_px
    least = [least_share(drawn or own if isinstance(sam, StretchedSam) else own, job.recipe.scale)]
    training, held_out = split_photos(job.shards, job.photos, on_problem, least, job.recipe.seed)
    return FinetuneTask(replace(job.recipe, start_sha256=sam.sha256), sam, training, held_out)
