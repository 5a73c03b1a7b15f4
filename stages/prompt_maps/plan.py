"""Estimate the time and size of prompt maps of all photos from a few that are built."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from aopsam.training.plan import clock
from schemas.prompt_maps import SCHEMA
from stages.annotations.count import TAR_BYTES, count_photos
from stages.annotations.each_photo import EachPhoto
from stages.annotations.job import PhotoJob
from stages.engine.resources import Resources
from stages.prompt_maps.actor import BuildPromptMaps
from stages.prompt_maps.files import HOW
from stages.prompt_maps.recipe import MapRecipe

MOST_PHOTOS = 16
MOST_SECONDS = 20.0
"""Limits of photos and seconds; whichever comes first ends the measurement."""


@dataclass(frozen=True)
class MapPlan:
    """The cost of a run on machines like this one.

    Attributes:
        photos: photos of all shards.
        counted: how `photos` was found: counted or estimated.
        measured: photos that were measured.
        seconds_photo: seconds a photo on one actor; reading runs in parallel and is not counted.
        rows_photo: rows a photo; below 1 where some cannot be used.
        row_bytes: bytes a row on disk.
        embedding_bytes: bytes of a row's embedding before compression.
        actors: actors that share the work.
    """

    photos: int
    counted: str
    measured: int
    seconds_photo: float
    rows_photo: float
    row_bytes: float
    embedding_bytes: int
    actors: int

    def __str__(self) -> str:
        rows = self.photos * self.rows_photo
        return (
            f"{self.photos} photos ({self.counted}) of {self.seconds_photo:.2f} s ({self.measured} measured):"
            f" {clock(self.photos * self.seconds_photo / self.actors)} with {self.actors} actor(s), CPUs not shared;"
            f" {rows:.0f} rows of {self.row_bytes / 1e3:.0f} kB: {rows * self.row_bytes / 1e9:.2f} GB on disk"
            f" (an embedding: {self.embedding_bytes / 1e3:.0f} kB before compression)"
        )


def plan_maps(job: PhotoJob, recipe: MapRecipe, resources: Resources) -> MapPlan | None:
    """Estimate the cost from maps of a few photos of the first shard that has some; None if none can be used."""
    tables = (table for source in job.sources for table in job.reading(source.unit()))
    samples = next((table for table in tables if table.column("part")[0].is_valid), None)
    if samples is None:
        return None
    work = BuildPromptMaps(replace(recipe, threads=resources.threads), resources.device)
    stage = EachPhoto(lambda: work, SCHEMA)
    stage(samples.slice(0, 1))  # the first is slower
    built: list[pa.Table] = []
    began = time.perf_counter()
    while len(built) < min(MOST_PHOTOS, samples.num_rows) and time.perf_counter() - began < MOST_SECONDS:
        built.append(stage(samples.slice(len(built), 1)))
    seconds = time.perf_counter() - began
    results = pa.concat_tables(built)
    rows = results.filter(results.column("outcome").is_null()).select(SCHEMA.names)
    if not rows.num_rows:
        return None
    content = sum(photo["bytes"] for photo in results.column("outcome").drop_null().to_pylist()) / len(built)
    chosen = job.reading.chosen()
    counted = count_photos(job.sources, content, chosen)
    how = "counted"
    if chosen is not None and counted.photos == len(chosen):
        how = "those chosen"
    elif counted.tar_bytes:
        size, each = counted.tar_bytes / 1e9, (content + TAR_BYTES) / 1e3
        how = f"estimated: {size:.2f} GB of tars, {each:.0f} kB a photo"
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **HOW)
    return MapPlan(
        photos=counted.photos,
        counted=how,
        measured=len(built),
        seconds_photo=seconds / len(built),
        rows_photo=rows.num_rows / len(built),
        row_bytes=sink.getvalue().size / rows.num_rows,
        embedding_bytes=len(rows.column("embedding")[0].as_py()),
        actors=resources.actors,
    )
