"""Build the predictor's training from folders of prompt maps, in any process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice

import torch

from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.predictor.weights import save_predictor
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, annotated
from aopsam.training.calibration import calibrate_threshold
from aopsam.training.predictor import PredictorRecipe, PredictorTask, confidence_maps
from aopsam.training.prompted_photos import PromptedPhotos
from stages.annotations.held_out import is_held_out
from stages.annotations.read import read_annotated
from stages.prompt_maps.rows import PromptMapRows
from stages.storage.atomic import write_path

SAMPLING = Sampling(smoothing_sigma=1.0, spacing=1)
"""The paper's 2 and 6 leave too few peaks of a map that is as smooth as ours (aopsam/weights/predictor-tiny.md)."""

PROMPTS = 100
"""Median prompts a photo that the threshold is chosen for; the paper's Table 2 has 61 to 120."""


@dataclass(frozen=True)
class PredictorJob:
    """What a predictor is trained on and judged by.

    Attributes:
        folders: of prompt maps.
        recipe: hyper-parameters.
        sampling: of the map, the threshold apart, which is chosen.
        prompts: wanted median a photo.
        shards: annotated photos to validate on, of which only those held out are used.
        photos: how many of them.
        checkpoint: weights of the SAM that made the maps, where not the registry's own.
    """

    folders: tuple[str, ...]
    recipe: PredictorRecipe
    sampling: Sampling
    prompts: int
    shards: tuple[str, ...] = ()
    photos: int = 12
    checkpoint: str | None = None


def predictor_task(job: PredictorJob) -> PredictorTask:
    """The task.

    Raises:
        ValueError: too few rows, prompt maps or shards that cannot be used, or weights other than the maps'.
        OSError: something that cannot be read.
    """
    training, held_out = PromptMapRows(job.folders).split()
    photos = None
    if job.shards:
        sam = load_sam(training.sam, job.checkpoint)
        if sam.sha256 != training.sam_sha256:
            raise ValueError(
                f"the maps were made with {training.sam} ({training.sam_sha256[:12]}), not with {sam.sha256[:12]}:"
                " give its file with --checkpoint"
            )
        each = -(-job.photos // len(job.shards))
        chosen = [photo for shard in job.shards for photo in islice(_unseen(shard), each)]
        if not chosen:
            raise ValueError("none of the photos to validate on is held out of training; give more shards")
        photos = PromptedPhotos(sam, chosen[: job.photos])
    return PredictorTask(training, job.recipe, held_out, photos, job.sampling, job.prompts)


def _unseen(shard: str) -> Iterator[Annotated]:
    """The shard's usable photos that are held out; what is broken has been named when the maps were built."""
    for sample in read_annotated(shard, lambda line: None):
        if is_held_out(sample.id):
            photo = annotated(sample, lambda line: None)
            if photo is not None:
                yield photo


def finish_predictor(
    job: PredictorJob, task: PredictorTask, weights: Mapping[str, torch.Tensor], uri: str
) -> PromptPredictor:
    """Choose the sampling threshold of a trained predictor on held-out maps, and write its weights.

    Args:
        job: what it was trained on.
        task: the training; its model takes the weights.
        weights: to keep.
        uri: of the file, a path or fsspec URI.
    """
    predictor = task.model.eval()
    predictor.load_state_dict(weights)
    rows, held_out = PromptMapRows(job.folders).split()
    predictor.sam, predictor.sam_sha256 = rows.sam, rows.sam_sha256
    maps = confidence_maps(predictor, held_out)
    predictor.sampling = calibrate_threshold(maps, job.sampling, job.prompts)
    notes = {f"recipe_{name}": str(value) for name, value in asdict(job.recipe).items()}
    with write_path(uri) as path:
        save_predictor(predictor, path, notes | {"rows": str(len(rows))})
    return predictor
