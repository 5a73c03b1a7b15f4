"""Describe the photos of a corpus on actors, in parts of some photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from aopsam.sam.registry import load_sam
from stages.annotations.job import Done, PhotoJob
from stages.annotations.samples import ReadSamples, Source
from stages.annotations.shards import list_shards
from stages.curate.actor import DESCRIPTIONS, DescribePhotos, DescriptionRecipe
from stages.curate.output import refuse_to_overwrite
from stages.engine.resources import Resources
from stages.storage.fetched import local_file
from stages.storage.location import redact

ROWS_PER_PART = 16


def prepare_curation(data: Sequence[str], keep: str, seed: int, recipe: DescriptionRecipe, out: str) -> PhotoJob:
    """Check all that can be checked before the work; write nothing.

    Args:
        data: as `stages.annotations.shards.list_shards` takes it, each.
        keep: as `stages.curate.choice.Keep` takes it.
        seed: of the choice.
        recipe: which SAM's embeddings.
        out: folder or URI, without a slash at its end.

    Raises:
        ValueError: no shard, a SAM that cannot be used, or an OUT that is another run's or cannot be written.
        OSError: something that cannot be read.
    """
    refuse_to_overwrite(out)
    shards = sorted({shard for each in data for shard in list_shards(each)})
    configuration = {
        "data": sorted(map(redact, data)),
        "keep": keep,
        "seed": seed,
        "sam": recipe.sam,
        "sam_sha256": load_sam(recipe.sam, local_file(recipe.checkpoint)).sha256,
        "rows_per_part": ROWS_PER_PART,
    }
    sources = [Source.of_shard(shard) for shard in shards]
    job = PhotoJob(out, sources, ReadSamples(ROWS_PER_PART), DESCRIPTIONS, configuration)
    job.check("cover.png", "sheet.png", "curation.parquet")
    return job


def describe_photos(job: PhotoJob, recipe: DescriptionRecipe, resources: Resources, max_seconds: float) -> Done:
    """Describe every photo that is not yet; return the descriptions of all."""
    recipe = replace(recipe, device=resources.device, threads=resources.threads)
    return job.run(partial(DescribePhotos, recipe), resources, max_seconds)
