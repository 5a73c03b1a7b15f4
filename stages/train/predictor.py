"""Build the predictor's training from folders of prompt maps, in any process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from aopsam.predictor.network import PromptPredictor
from aopsam.predictor.sampling import Sampling
from aopsam.predictor.weights import save_predictor
from aopsam.sam.registry import load_sam
from aopsam.training.annotated import Annotated, annotated
from aopsam.training.predictor import PredictorRecipe, PredictorTask
from aopsam.training.prompted_photos import PromptedPhotos
from stages.annotations.held_out import HOLD_OUT, is_held_out
from stages.annotations.read import read_annotated
from stages.prompt_maps.rows import PromptMapRows
from stages.storage.atomic import write_bytes


@dataclass(frozen=True)
class PredictorWork:
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


def predictor_task(work: PredictorWork) -> PredictorTask:
    """The task.

    Raises:
        ValueError: too few rows, prompt maps or shards that cannot be used, or weights other than the maps'.
        OSError: something that cannot be read.
    """
    training, held_out = PromptMapRows(work.folders).split(HOLD_OUT)
    if not len(training) or not len(held_out):
        raise ValueError(f"{len(training) + len(held_out)} rows are too few to train on and to hold some out")
    photos = None
    if work.shards:
        sam = load_sam(training.sam, work.checkpoint)
        if sam.sha256 != training.sam_sha256:
            raise ValueError(
                f"the maps were made with {training.sam} ({training.sam_sha256[:12]}), not with {sam.sha256[:12]}:"
                " give its file with --checkpoint"
            )
        each = -(-work.photos // len(work.shards))
        chosen = [photo for shard in work.shards for photo in islice(_unseen(shard), each)]
        if not chosen:
            raise ValueError("none of the photos to validate on is held out of training; give more shards")
        photos = PromptedPhotos(sam, chosen[: work.photos])
    return PredictorTask(training, work.recipe, held_out, photos, work.sampling, work.prompts)


def _unseen(shard: str) -> Iterator[Annotated]:
    """The shard's usable photos that are held out; what is broken has been named when the maps were built."""
    for sample in read_annotated(shard, lambda line: None):
        if is_held_out(sample.id):
            photo = annotated(sample, lambda line: None)
            if photo is not None:
                yield photo


def write_predictor(predictor: PromptPredictor, recipe: PredictorRecipe, rows: int, uri: str) -> None:
    """Write a predictor's weights, with the recipe and the number of rows that it was trained on."""
    notes = {f"recipe_{name}": str(value) for name, value in asdict(recipe).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictor.safetensors"
        save_predictor(predictor, path, notes | {"rows": str(rows)})
        write_bytes(uri, path.read_bytes())
