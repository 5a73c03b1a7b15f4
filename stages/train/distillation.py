"""Build the distillation of a light encoder from photos anywhere, in any process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from aopsam._half_weights import save_half
from aopsam.photos.sa1b import Sample
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, Findings, StoredPhotos
from aopsam.training.distillation import DecoupledTask
from aopsam.training.sami import BATCH, PAPER, SamiRecipe, SamiTask
from aopsam.training.stream import StreamedPhotos
from aopsam.training.student import StudentRecipe, StudentTask, build_student, share_decoder
from stages.annotations.held_out import held_out_ids, is_held_out, listed_id
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file
from stages.train.listed import bare, read_listed

JUDGED = 16
"""Most held-out photos to validate on."""


@dataclass(frozen=True)
class DistillationJob:
    """Configuration of a distillation: photos, recipe and weights.

    Attributes:
        data: whatever `stages.corpus.listing.list_images` lists, reachable from every worker; annotations are not read.
        recipe: hyper-parameters; a `SamiRecipe` for SAMI.
        out: folder or URI of the run.
        checkpoint: file of the teacher's weights, on every node, where not the bundled or official one.
        start: file of the student's weights to begin with.
    """

    data: tuple[str, ...]
    recipe: StudentRecipe
    out: str
    checkpoint: str | None = None
    start: str | None = None


def student_recipe(method: str, of: str, workers: int, given: Mapping[str, Any]) -> StudentRecipe:
    """Return a recipe of ours or the paper's, with what is given in place of its values.

    Args:
        method: "decoupled" or "sami".
        of: "ours" or "paper", which is SAMI's alone; its batches are spread over workers and accumulated.
        workers: number of workers.
        given: values by attribute; None where the recipe's own is meant.

    Raises:
        ValueError: a value out of its limits, or a batch that cannot be spread.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if of == "ours":
        return (SamiRecipe if method == "sami" else StudentRecipe)(**values)
    if method != "sami":
        raise ValueError("--recipe paper has EfficientSAM's values for SAMI: give --method sami, or --recipe ours")
    recipe = replace(PAPER, **values)
    return recipe if "accumulate" in values else replace(recipe, accumulate=accumulated(BATCH, recipe.batch, workers))


def accumulated(batch: int, at_once: int, workers: int) -> int:
    """Return how many batches of a worker make up one of a whole update.

    Raises:
        ValueError: they do not.
    """
    if batch % (at_once * workers):
        raise ValueError(
            f"{at_once} at once on each of {workers} worker(s): the paper's batch of {batch} is no multiple of that"
        )
    return batch // (at_once * workers)


def distillation_task(job: DistillationJob, on_problem: Callable[[str], None] = lambda line: None) -> StudentTask:
    """Build the student's training task; photos that `stages.annotations.held_out` holds out are not trained on.

    Args:
        job: configuration of the distillation.
        on_problem: called with one line for each photo that cannot be read, of those that are read first.

    Raises:
        ValueError: no such data, or weights that do not fit.
    """
    recipe = job.recipe
    teacher = load_sam(recipe.teacher, local_file(job.checkpoint))
    recipe = replace(recipe, teacher_sha256=teacher.sha256)
    if job.start is None:
        student = build_student(recipe.student, recipe.seed)
    else:
        student = load_sam(recipe.student, local_file(job.start))
        recipe = replace(recipe, start_sha256=student.sha256)
    share_decoder(student, teacher)
    photos, held_out = _split(job, on_problem)
    if isinstance(recipe, SamiRecipe):
        return SamiTask(recipe, teacher, student, photos, held_out)
    return DecoupledTask(recipe, teacher, student, photos, held_out)


def _split(job: DistillationJob, on_problem: Callable[[str], None]) -> tuple[StreamedPhotos, StoredPhotos]:
    """Return the photos to train on, and up to `JUDGED` held-out ones, evenly taken of those that are read first."""
    exclude = job.out if "://" not in job.out else None
    first, stream = read_listed(job.data, bare, on_problem, job.recipe.seed, exclude)
    names = [listed_id(name) for name in first.photos.ids]
    held_out = held_out_ids(names)
    apart = np.array([name in held_out for name in names], bool)

    def check(sample: Sample, findings: Findings) -> Annotated | None:
        """Check a photo that the run comes to later."""
        name = listed_id(sample.id)
        return None if is_held_out(name) or name in held_out else bare(sample, findings)

    judged = np.flatnonzero(apart)
    judged = judged[np.unique(np.linspace(0, len(judged) - 1, JUDGED).round().astype(int))] if len(judged) else judged
    return StreamedPhotos(first, np.flatnonzero(~apart).tolist(), stream, check), first.photos.take(judged.tolist())


def finish_student(task: StudentTask, weights: Mapping[str, torch.Tensor], uri: str, method: str) -> None:
    """Write a student with its teacher's decoder and thresholds.

    Args:
        task: the training task; its student takes the weights.
        weights: weights of the image encoder.
        uri: path or fsspec URI of the file.
        method: how it was distilled, for the metadata.
    """
    task.student.image_encoder.load_state_dict(weights)
    facts = {"method": method, "photos": task.pool.describe(), "recipe": json.dumps(asdict(task.recipe))}
    facts |= {"teacher": task.recipe.teacher, "teacher_sha256": task.recipe.teacher_sha256}
    thresholds = {name: str(value) for name, value in asdict(task.teacher.thresholds).items()}
    with write_path(uri) as path:
        save_half(task.student, path, thresholds | facts)
