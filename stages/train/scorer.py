"""Make examples of masks on actors, train a scorer on them, and say how it does on photos held out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from segment_anything.modeling import Sam

from aopsam.mask_head.network import MaskHead
from aopsam.mask_head.weights import find_mask_head
from aopsam.metrics.correlation import pearson
from aopsam.sam.registry import load_sam
from aopsam.sam.things import ThingHead, find_thing_head
from aopsam.scoring.features import FEATURES
from aopsam.scoring.network import MaskScorer
from aopsam.scoring.weights import save_scorer
from aopsam.training.annotated import StoredPhotos, annotated, checked
from aopsam.training.recipes import ScorerRecipe
from aopsam.training.scorer import Examples, choose_scorer_thresholds, fit_scorer, make_examples
from aopsam.training.stream import PhotoStream, read_first
from stages.annotations.held_out import held_out_ids, is_held_out
from stages.annotations.job import Done, PhotoJob
from stages.annotations.read import read_annotated
from stages.annotations.samples import ReadSamples, Source, sample_of
from stages.annotations.shards import list_shards
from stages.engine.resources import Resources
from stages.storage.atomic import write_path
from stages.storage.fetched import local_file
from stages.storage.location import redact
from stages.storage.parts import digest_of
from stages.train.arguments import PHOTOS

THRESHOLD_PHOTOS = 16
"""Photos annotated all over that thresholds are chosen on."""

SPARSE = " (sparse)"
"""End of the name of a source of photos with objects that are not annotated."""

ROWS_PER_PART = 4

MASKS = pa.schema(
    [
        pa.field("photo", pa.string()),
        pa.field("features", pa.list_(pa.float32(), len(FEATURES))),
        pa.field("iou", pa.float32()),
        pa.field("asked_iou", pa.float32()),
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
        thing_head: file of its thing head, on every node; None for the bundled one, if it is the SAM's.
        mask_head: file of its mask head, in the same way.
        recipe: hyper-parameters.
        photos: the most photos that examples are made of; all examples are in memory together.
    """

    dense: tuple[str, ...]
    sparse: tuple[str, ...]
    sam: str
    checkpoint: str | None
    thing_head: str | None
    mask_head: str | None
    recipe: ScorerRecipe
    photos: int = PHOTOS

    def load(self, device: str = "cpu") -> tuple[Sam, ThingHead | None, MaskHead | None]:
        """Return the SAM, its thing head and its mask head, as far as there are any, on a device.

        Raises:
            ValueError: weights that cannot be loaded, or a head of other weights.
            OSError: a file that is not there.
        """
        sam = load_sam(self.sam, local_file(self.checkpoint)).to(device)
        heads = find_thing_head(sam, local_file(self.thing_head)), find_mask_head(sam, local_file(self.mask_head))
        return sam, *heads


class MakeExamples:
    """Work on a photo of `SAMPLES` (annotations/samples.py): a row of `MASKS` for each mask of the SAM."""

    def __init__(self, job: ScorerJob, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.recipe = job.recipe
        self.sam, self.thing_head, self.mask_head = job.load(device)

    def __call__(self, sample: Mapping[str, Any], report: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Prompt the SAM on a photo; tell what of it cannot be used."""
        place = f"{sample['image_id']}: "
        photo = annotated(sample_of(sample), lambda line: report(line.removeprefix(place)))
        if photo is None:
            return
        sparse = sample["source"].endswith(SPARSE)
        all_made = make_examples(
            *(self.sam, photo, self.recipe), sparse=sparse, thing_head=self.thing_head, mask_head=self.mask_head
        )
        for made in all_made:
            numbers = zip(made.features.tolist(), made.iou.tolist(), made.asked_iou.tolist(), strict=True)
            for features, iou, asked in numbers:
                yield {"photo": photo.id, "features": features, "iou": iou, "asked_iou": asked}


def prepare_examples(job: ScorerJob, out: str) -> PhotoJob:
    """Check all that can be checked before the work; write nothing.

    Raises:
        ValueError: photos that are not there, a SAM that cannot be loaded, or an OUT that is another run's or cannot be
            written.
    """
    sam, thing_head, mask_head = job.load()
    named = {
        f"{redact(shard)}{kind}": shard
        for sources, kind in ((job.dense, ""), (job.sparse, SPARSE))
        for source in sources
        for shard in list_shards(source)
    }
    # Of more shards than photos some are read, whatever their order.
    names = list(named) if len(named) <= job.photos else sorted(named, key=digest_of)[: job.photos]
    sources = [Source(name, (named[name],), job.photos // len(names)) for name in names]
    configuration = {
        "data": sorted(map(redact, job.dense)),
        "sparse": sorted(map(redact, job.sparse)),
        "sam": job.sam,
        "sam_sha256": sam.sha256,
        "thing_head_sha256": thing_head and thing_head.sha256,
        "mask_head_sha256": mask_head and mask_head.sha256,
        "photos": job.photos,
        "rows_per_part": ROWS_PER_PART,
    } | asdict(job.recipe)
    work = PhotoJob(out, sources, ReadSamples(ROWS_PER_PART), MASKS, configuration)
    work.check("scorer.safetensors")
    return work


def collect_examples(job: ScorerJob, work: PhotoJob, resources: Resources, max_seconds: float) -> Done:
    """Make the examples of the photos that have none yet; return those of all.

    Args:
        job: what to do to each photo.
        work: of `prepare_examples`.
        resources: actors, threads and device.
        max_seconds: longest time for a photo.
    """
    return work.run(partial(MakeExamples, job, resources.device, resources.threads), resources, max_seconds)


def finish_scorer(job: ScorerJob, tables: Sequence[pa.Table], path: str) -> str:
    """Train on the examples of photos that are not held out, write the weights, and say how they do on the rest.

    Raises:
        NothingToLearn: fewer than two masks of photos that are not held out.
    """
    masks = pa.concat_tables([MASKS.empty_table(), *tables])
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
    sam, thing_head, _ = job.load()
    scorer.sam, scorer.sam_sha256 = sam.name, sam.sha256
    choose_scorer_thresholds(sam, scorer, _photos(job, apart), thing_head=thing_head)
    notes = {"recipe": json.dumps(asdict(job.recipe)), "photos": str(len(by_photo)), "masks": str(len(features))}
    with write_path(path) as file:
        save_scorer(scorer, file, notes)
    return describe(scorer, examples(held_out=True))


def describe(scorer: MaskScorer, held_out: Sequence[Examples]) -> str:
    """Say in a line how scores of held-out masks go with their IoU, beside SAM's own estimates."""
    if not held_out:
        return "no photo was held out"
    features = torch.cat([e.features for e in held_out])
    scores, estimate = scorer(features).sigmoid(), features[:, 0]
    said = f"{len(features)} masks of {len(held_out)} held-out photos"
    for score, of in zip(scores.unbind(1), ("iou", "asked_iou"), strict=True):
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
