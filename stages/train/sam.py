"""Build the training of a promptable SAM from annotated shards and edge maps, in any process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from aopsam._half_weights import save_half
from aopsam.sam.checkpoints import read_state_dict
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import StoredPhotos
from aopsam.training.build_sam import FRAME_PX
from aopsam.training.finetune import FinetuneTask
from aopsam.training.recipes import SamRecipe
from aopsam.training.sam import VALIDATION_SCALE, SamTask
from aopsam.training.stream import StreamedPhotos
from aopsam.training.thresholds import choose_thresholds
from aopsam.training.windows import least_share
from stages.annotations.held_out import split_sources
from stages.edge_maps.files import EdgeMaps, read_edge_maps
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file
from stages.storage.location import redact
from stages.train.arguments import SamInputs
from stages.train.unlabelled import load_unlabelled

THRESHOLD_PHOTOS = 16


@dataclass(frozen=True)
class SamJob:
    """Configuration of a SAM's training: photos, recipe and weights.

    Attributes:
        sources: of each source of annotated photos its shards, as `stages.annotations.shards.list_shards` gives them,
            reachable from every worker.
        recipe: hyper-parameters of one worker; more workers see more windows an update.
        inputs: shares of the sources, edges, photos without annotations, weights of the trunk.
        workers: number of workers.
        photos: the most held-out photos to validate on.
        start: file of `tiny`'s weights to begin with, on every node.
    """

    sources: tuple[tuple[str, ...], ...]
    recipe: SamRecipe
    inputs: SamInputs
    workers: int = 1
    photos: int = 12
    start: str | None = None


def check_job(job: SamJob) -> str:
    """Check what goes together in a job; return the folder of edge maps.

    Raises:
        ValueError: something is missing or does not fit; the message names the flag.
    """
    inputs, recipe = job.inputs, job.recipe
    if inputs.edges is None:
        raise ValueError("needs --edges, the folder that pipelines/build_edge_maps.py made of the same photos")
    if inputs.trunk is None and job.start is None:
        raise ValueError("needs --trunk, NanoDet's weights, or --start, weights of tiny")
    if inputs.shares and len(inputs.shares) != len(job.sources):
        raise ValueError(f"--shares has {len(inputs.shares)} numbers and --data {len(job.sources)}; give one for each")
    if wrong := [share for share in (*inputs.shares, inputs.unlabelled_share) if not 0.01 <= share <= 100]:
        raise ValueError(f"a share of {wrong[0]}: --shares and --unlabelled-share lie between 0.01 and 100")
    if recipe.dense_steps >= recipe.steps:
        raise ValueError(
            f"--dense-steps {recipe.dense_steps} of --steps {recipe.steps}: the decoder would never learn; give more"
            " steps, or fewer dense ones"
        )
    return inputs.edges


def sam_task(job: SamJob, on_problem: Callable[[str], None] = lambda line: None) -> SamTask:
    """Build the training task of a SAM.

    Raises:
        ValueError: what `check_job` raises, no annotated photo, no mask that is large enough, no edge map of any
            photo, or weights that are not those of NanoDet or `tiny`.
    """
    folder, inputs = check_job(job), job.inputs
    edges = read_edge_maps(folder)
    photos, held_out = _split(job, on_problem)
    shares = list(inputs.shares or [1.0] * len(photos))
    ids = {name for source in held_out for name in source.ids}
    if inputs.unlabelled:
        photos.append(load_unlabelled(inputs.unlabelled, edges, on_problem, ids, job.recipe.seed))
        shares.append(inputs.unlabelled_share)
    _check_edges(photos, edges, folder, on_problem)
    apart = [photo for source in held_out for photo in source.with_edges(edges)]
    photos = [source.with_edges(edges) for source in photos]
    if job.start is not None:
        start = load_sam("tiny", local_file(job.start)).state_dict()
        return SamTask(photos, job.recipe, apart, shares=shares, start=start, workers=job.workers)
    file = Path(local_file(inputs.trunk) or "")
    try:
        trunk, _ = read_state_dict(file)
        return SamTask(photos, job.recipe, apart, shares=shares, trunk=trunk, workers=job.workers)
    except ValueError as error:
        raise ValueError(str(error) if str(file) in str(error) else f"{file}: {error}") from error


def _split(job: SamJob, on_problem: Callable[[str], None]) -> tuple[list[StreamedPhotos], list[StoredPhotos]]:
    """Return the photos to train on and the held-out ones by source, all with a mask that is large enough."""
    recipe = job.recipe
    scales = [recipe.scale, recipe.frame_scale] if any(recipe.frame_share) else [recipe.scale]
    least = [least_share(FRAME_PX, scale) for scale in scales]
    photos, held_out = split_sources(job.sources, job.photos, on_problem, least, recipe.seed)
    judged = least_share(FRAME_PX, VALIDATION_SCALE)
    return photos, [source.take(np.flatnonzero(source.largest >= judged)) for source in held_out]


def _check_edges(
    sources: Sequence[StreamedPhotos], edges: EdgeMaps, folder: str, on_problem: Callable[[str], None]
) -> None:
    """Report how many photos to train on have no edge map.

    Raises:
        ValueError: none has one.
    """
    photos = [source.photos for source in sources]
    bare = [each.ids[n] for each in photos for n, digest in enumerate(each.digests) if digest not in edges]
    total = sum(map(len, sources))
    if len(bare) == total:
        raise ValueError(
            f"{redact(folder)}: {len(edges)} edge maps, and none of the {total} photos to train on; make them with"
            " pipelines/build_edge_maps.py"
        )
    if bare:
        on_problem(f"{len(bare)} of {total} photos to train on have no edge map, such as {bare[0]}")


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
    facts = {"recipe": json.dumps(asdict(task.recipe)), "photos": task.pool.describe()}
    with write_path(uri) as path:
        save_half(sam, path, thresholds | facts)
    return thresholds
