"""A run that builds prompt maps: annotated shards in, parts of sixteen photos out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from aopsam.sam.registry import load_sam
from schemas.prompt_maps import SCHEMA
from stages.annotations.job import Done, PhotoJob
from stages.annotations.samples import ReadSamples, Source
from stages.annotations.shards import list_shards
from stages.engine.resources import Resources
from stages.prompt_maps.actor import BuildPromptMaps
from stages.prompt_maps.files import HOW, INDEX, refuse_to_add, write_index
from stages.prompt_maps.recipe import MapRecipe
from stages.storage.fetched import local_file
from stages.storage.location import redact
from stages.storage.parts import digest_of

ROWS_PER_FILE = 16


def prepare_maps(data: Sequence[str], images: str | None, only: str | None, recipe: MapRecipe, out: str) -> PhotoJob:
    """Check all that can be checked before the work; write nothing.

    Args:
        data: as `stages.annotations.shards.list_shards` takes it, each.
        images: where the photos of labels are, if not where they were labelled.
        only: URI of a table of schemas/curation.py, whose chosen photos are used; None for all photos.
        recipe: how maps are made.
        out: folder or URI, without a slash at its end.

    Raises:
        ValueError: no shard, no such curation, an unknown SAM, or an OUT that is another run's, holds other
            tables or cannot be written.
        OSError: something that cannot be read.
    """
    refuse_to_add(out)
    shards = dict.fromkeys(shard for each in data for shard in list_shards(each))
    reading = ReadSamples(ROWS_PER_FILE, images, only)
    chosen = reading.chosen()
    configuration = {name: value for name, value in asdict(recipe).items() if name not in ("checkpoint", "threads")} | {
        "data": sorted(map(redact, data)),
        "images": images and redact(images),
        "only": None if chosen is None else digest_of("\0".join(sorted(chosen))),
        "sam_sha256": load_sam(recipe.sam, local_file(recipe.checkpoint)).sha256,
        "rows_per_file": ROWS_PER_FILE,
    }
    job = PhotoJob(out, [Source.of_shard(shard) for shard in shards], reading, SCHEMA, configuration, "", HOW)
    job.check("sheet.png", INDEX)
    return job


def build_maps(job: PhotoJob, recipe: MapRecipe, resources: Resources, max_seconds: float) -> Done:
    """Build the maps of photos that have none in OUT yet, and index all; `Done` is without their rows."""
    make = partial(BuildPromptMaps, replace(recipe, threads=resources.threads), resources.device)
    done = job.run(make, resources, max_seconds, rows=False)
    if done.used:
        write_index(job.out)
    return done
