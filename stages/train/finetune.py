"""Build the fine-tuning of a light encoder inside SAM from annotated shards, in any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aopsam.sam.registry import load_sam
from aopsam.training.finetune import FinetuneRecipe, FinetuneTask
from aopsam.training.windows import least_share
from stages.annotations.held_out import split_photos
from stages.storage.fetched import local_file


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
    least = [least_share(sam.image_encoder.img_size, job.recipe.scale)]
    training, held_out = split_photos(job.shards, job.photos, on_problem, least, job.recipe.seed)
    return FinetuneTask(replace(job.recipe, start_sha256=sam.sha256), sam, training, held_out)
