"""Make examples of masks on actors, train a scorer on them, and say how it does on photos held out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from aopsam.metrics.correlation import pearson
from aopsam.photos.sa1b import Sample
from aopsam.sam.registry import load_sam
from aopsam.scoring.features import FEATURES
from aopsam.scoring.network import MaskScorer
from aopsam.scoring.weights import save_scorer
from aopsam.training.annotated import Annotated, StoredPhotos, annotated, checked
from aopsam.training.scorer import Examples, ScorerRecipe, choose_scorer_thresholds, fit_scorer, make_examples
from aopsam.training.stream import PhotoStream, read_first
from stages.annotations.held_out import held_out_ids, is_held_out
from stages.annotations.read import read_annotated
from stages.annotations.shards import list_shards
from stages.runner import Resources, run_actors
from stages.storage.atomic import write_path

THRESHOLD_PHOTOS = 16
"""Photos annotated all over that thresholds are chosen on."""

SAY_EVERY = 50
"""Photos between two lines about progress."""

SAMPLES = pa.schema(
    [
        pa.field("sample", pa.string()),
        pa.field("jpeg", pa.large_binary()),
        pa.field("sparse", pa.bool_()),
        pa.field("problem", pa.string()),
    ]
)
MASKS = pa.schema(
    [
        pa.field("photo", pa.string()),
        pa.field("features", pa.list_(pa.float32(), len(FEATURES))),
        pa.field("iou", pa.float32()),
        pa.field("asked_iou", pa.float32()),
        pa.field("problem", pa.string()),
    ]
)


@dataclass(frozen=True)
class ScorerJob:
    """Configuration of a scorer's training.

    Attributes:
        dense: sources of photos that are annotated all over, as `list_shards` takes them.
        sparse: sources of photos with objects that are not annotated.
        sam: name of the SAM whose masks are scored.
        checkpoint: file of its weights, on every node; None for the registry's own.
        recipe: hyper-parameters.
    """

    dense: tuple[str, ...]
    sparse: tuple[str, ...]
    sam: str
    checkpoint: str | None
    recipe: ScorerRecipe


def read_samples(unit: pa.Table) -> Iterator[pa.Table]:
    """Yield the photos of a unit (`shard`, `sparse`), one a table; what cannot be read is a `problem`."""
    for row in unit.to_pylist():
        problems: list[str] = []
        for sample in read_annotated(row["shard"], problems.append):
            values = asdict(sample)
            jpeg = values.pop("jpeg")
            found = {"sample": json.dumps(values), "jpeg": jpeg, "sparse": row["sparse"]}
            yield pa.Table.from_pylist([found], schema=SAMPLES)
        if problems:
            yield pa.Table.from_pylist([{"problem": problem} for problem in problems], schema=SAMPLES)


class MakeExamples:
    """Stage: tables of `SAMPLES` to tables of `MASKS`."""

    def __init__(self, job: ScorerJob, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.recipe = job.recipe
        self.sam = load_sam(job.sam, job.checkpoint).to(device)

    def __call__(self, samples: pa.Table) -> pa.Table:
        """Prompt the SAM on each photo; what cannot be used is a `problem`."""
        rows: list[dict[str, Any]] = []
        for row in samples.to_pylist():
            problems = [row["problem"]] if row["problem"] else []
            if row["sample"]:
                photo = annotated(Sample(jpeg=row["jpeg"], **json.loads(row["sample"])), problems.append)
                if photo is not None:
                    rows += self._rows(photo, sparse=row["sparse"])
            rows += [{"problem": problem} for problem in problems]
        return pa.Table.from_pylist(rows, schema=MASKS)

    def _rows(self, photo: Annotated, *, sparse: bool) -> Iterator[dict[str, Any]]:
        for made in make_examples(self.sam, photo, self.recipe, sparse=sparse):
            numbers = zip(made.features.tolist(), made.iou.tolist(), made.asked_iou.tolist(), strict=True)
            for features, iou, asked in numbers:
                yield {"photo": photo.id, "features": features, "iou": iou, "asked_iou": asked}


def list_units(job: ScorerJob) -> list[pa.Table]:
    """List a job's shards as units of work.

    Raises:
        ValueError: photos that are not there, or a SAM that cannot be loaded.
    """
    load_sam(job.sam, job.checkpoint)
    return [
        pa.table({"shard": [shard], "sparse": [sparse]})
        for sources, sparse in ((job.dense, False), (job.sparse, True))
        for source in sources
        for shard in list_shards(source)
    ]


def collect_examples(
    job: ScorerJob, units: Sequence[pa.Table], resources: Resources, say: Callable[[str], None]
) -> pa.Table:
    """Return the masks of all photos, as a table of `MASKS` without problems.

    Args:
        job: what to do to each photo.
        units: of `list_units`.
        resources: actors, threads and device.
        say: called with a line for every photo left out, and for every fiftieth photo.
    """
    make, tables = partial(MakeExamples, job, resources.device, resources.threads), [MASKS.empty_table()]
    for number, table in enumerate(run_actors(units, make, resources, read=read_samples), 1):
        for problem in table.column("problem").drop_null().to_pylist():
            say(f"left out: {problem}")
        if number % SAY_EVERY == 0:
            say(f"{number} photos")
        tables.append(table.filter(pc.is_valid(table.column("photo"))))
    return pa.concat_tables(tables)


def finish_scorer(job: ScorerJob, masks: pa.Table, path: str) -> str:
    """Train on the examples of photos that are not held out, write the weights, and say how they do on the rest.

    Raises:
        NothingToLearn: fewer than two masks of photos that are not held out.
    """
    by_photo: dict[str, list[int]] = {}
    for row, photo in enumerate(masks.column("photo").to_pylist()):
        by_photo.setdefault(photo, []).append(row)
    features = np.array(masks.column("features").combine_chunks().flatten(), np.float32).reshape(-1, len(FEATURES))
    iou, asked = (np.array(masks.column(name), np.float32) for name in ("iou", "asked_iou"))

    apart = held_out_ids(by_photo)

    def examples(held_out: bool) -> list[Examples]:
        chosen = (rows for photo, rows in sorted(by_photo.items()) if (photo in apart) == held_out)
        return [Examples(*(torch.from_numpy(values[rows]) for values in (features, iou, asked))) for rows in chosen]

    scorer = fit_scorer(examples(held_out=False), job.recipe)
    sam = load_sam(job.sam, job.checkpoint)
    scorer.sam, scorer.sam_sha256 = sam.name, sam.sha256
    choose_scorer_thresholds(sam, scorer, _photos(job, apart))
    notes = {"recipe": json.dumps(asdict(job.recipe)), "photos": str(len(by_photo)), "masks": str(len(features))}
    with write_path(path) as file:
        save_scorer(scorer, file, notes)
    return describe(scorer, examples(held_out=True))


def describe(scorer: MaskScorer, held_out: Sequence[Examples]) -> str:
    """Say in a line how scores of held-out masks go with their IoU, beside SAM's own estimates."""
    if not held_out:
        return "no photo was held out"
    features = torch.cat([e.features for e in held_out])
    score, estimate = scorer(features).sigmoid(), features[:, 0]
    said = f"{len(features)} masks of {len(held_out)} held-out photos"
    for of in ("iou", "asked_iou"):
        iou = torch.cat([getattr(e, of) for e in held_out])
        known = ~torch.isnan(iou)
        learned, own = (pearson(value[known].numpy(), iou[known].numpy()) for value in (score, estimate))
        target = {"iou": "the best IoU with any annotated mask", "asked_iou": "IoU with the mask asked for"}[of]
        if learned is not None and own is not None:
            said += f"; correlation with {target}: score {learned:.3f}, predicted IoU {own:.3f}"
    return said


def _photos(job: ScorerJob, held_out: Collection[str]) -> StoredPhotos:
    """Return photos to choose thresholds on, none of them held out, annotated all over if any source is."""
    source = (*job.dense, *job.sparse)[0]
    photos = read_first(PhotoStream(list_shards(source), read_annotated), checked).photos
    taught = [number for number, name in enumerate(photos.ids) if name not in held_out and not is_held_out(name)]
    return photos.take(taught[:: max(1, len(taught) // THRESHOLD_PHOTOS)][:THRESHOLD_PHOTOS])
