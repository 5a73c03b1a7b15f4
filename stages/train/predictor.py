"""Build the predictor's training from folders of prompt maps, in any process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice

import torch

from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.predictor.weights import save_predictor
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, annotated
from aopsam.training.predictor import PredictorTask, choose_sampling
from aopsam.training.prompted_photos import PromptedPhotos
from aopsam.training.recipes import PredictorRecipe
from stages.annotations.held_out import is_held_out
from stages.annotations.read import read_annotated
from stages.prompt_maps.rows import MIRRORED, PromptMapRows
from stages.registry.reference import open_predictor
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file
from stages.storage.location import redact


@dataclass(frozen=True)
class PredictorJob:
    """Configuration of a predictor's training: prompt maps, recipe and photos to validate on.

    Attributes:
        folders: folders of prompt maps.
        recipe: hyper-parameters.
        sampling: sampling of the map.
        prompts: wanted median of prompts a photo, for which the threshold is chosen after training; None to keep that
            of `sampling`.
        shards: annotated photos to validate on, of which only those held out are used.
        photos: the most held-out photos to validate on.
        checkpoint: file of the weights of the SAM that made the maps, where not the registry's own.
        start: file of a predictor of that SAM, or version of a registry, to begin with; None for random weights.
    """

    folders: tuple[str, ...]
    recipe: PredictorRecipe
    sampling: Sampling
    prompts: int | None
    shards: tuple[str, ...] = ()
    photos: int = 12
    checkpoint: str | None = None
    start: str | None = None


def predictor_task(job: PredictorJob) -> PredictorTask:
    """Build the predictor's training task; its model records the SAM whose embeddings it reads.

    Raises:
        ValueError: too few rows, prompt maps or shards that cannot be used, weights other than the maps', or a start of
            another SAM.
        OSError: a file cannot be read.
    """
    training, held_out = PromptMapRows(job.folders).split()
    photos = None
    if job.shards:
        sam = load_sam(training.sam, local_file(job.checkpoint))
        if sam.sha256 != training.sam_sha256:
            raise ValueError(
                f"the maps were made with {training.sam} ({training.sam_sha256[:12]}), not with {sam.sha256[:12]}:"
                " give its file with --checkpoint"
            )
        each = -(-job.photos // len(job.shards))
        names = {name.removesuffix(MIRRORED) for name in held_out.image_ids}
        chosen = [photo for shard in job.shards for photo in islice(_unseen(shard, names), each)]
        if not chosen:
            raise ValueError(
                "none of the photos to validate on is held out of training and has a mask; give more shards"
            )
        photos = PromptedPhotos(sam, chosen[: job.photos])
    task = PredictorTask(training, job.recipe, held_out, photos, job.sampling, job.prompts, _start(job, training))
    task.model.sam, task.model.sam_sha256 = training.sam, training.sam_sha256
    return task


def _start(job: PredictorJob, training: PromptMapRows) -> PromptPredictor | None:
    start = open_predictor(job.start)
    if start is not None and start.sam_sha256 != training.sam_sha256:
        raise ValueError(
            f"{redact(str(job.start))}: a predictor of {start.sam} ({start.sam_sha256[:12]}) cannot go on with maps of"
            f" {training.sam} ({training.sam_sha256[:12]})"
        )
    return start


def _unseen(shard: str, held_out: Collection[str]) -> Iterator[Annotated]:
    """Yield the shard's usable photos that are held out; broken ones were reported when the maps were built."""
    for sample in read_annotated(shard, lambda line: None):
        if is_held_out(sample.id) or sample.id in held_out:
            photo = annotated(sample, lambda line: None)
            if photo is not None:
                yield photo


def finish_predictor(
    job: PredictorJob, task: PredictorTask, weights: Mapping[str, torch.Tensor], uri: str
) -> PromptPredictor:
    """Write the weights of a trained predictor, with its sampling.

    Args:
        job: configuration of the training.
        task: the training task; its model takes the weights.
        weights: the weights to keep.
        uri: path or fsspec URI of the file.
    """
    predictor = task.model.eval()
    predictor.load_state_dict(weights)
    assert task.held_out is not None
    predictor.sampling = choose_sampling(predictor, task.held_out, job.sampling, job.prompts)
    notes = {f"recipe_{name}": str(value) for name, value in asdict(job.recipe).items()}
    with write_path(uri) as path:
        save_predictor(predictor, path, notes | {"rows": str(len(task.dataset))})
    return predictor
