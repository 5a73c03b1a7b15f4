"""Estimate the time and size of prompt maps of all photos from a few that are built."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aopsam.training.plan import clock
from stages.engine.resources import Resources
from stages.prompt_maps.actor import BuildPromptMaps, MapRecipe
from stages.prompt_maps.files import parquet_bytes
from stages.prompt_maps.samples import Reading, read_samples
from stages.storage.location import open_filesystem

MOST_PHOTOS = 16
MOST_SECONDS = 20.0
"""Limits of photos and seconds; whichever comes first ends the measurement."""

_TAR_BYTES = 2 * (512 + 256)  # of a photo and its JSON besides their content: headers, and half a block of padding each


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


def plan_maps(shards: Sequence[str], reading: Reading, recipe: MapRecipe, resources: Resources) -> MapPlan | None:
    """Estimate the cost from maps of a few photos of the first shard that has some; None if none can be used."""
    tables = (
        table.filter(pc.is_null(table.column("problem")))
        for table in read_samples(pa.table({"shard": list(shards)}), reading)
    )
    samples = next((table for table in tables if table.num_rows), None)
    if samples is None:
        return None
    stage = BuildPromptMaps(replace(recipe, threads=resources.threads), "", resources.device)
    stage.build(samples.slice(0, 1))  # the first is slower
    built: list[pa.Table] = []
    began = time.perf_counter()
    while len(built) < min(MOST_PHOTOS, samples.num_rows) and time.perf_counter() - began < MOST_SECONDS:
        built.append(stage.build(samples.slice(len(built), 1))[0])
    seconds = time.perf_counter() - began
    rows = pa.concat_tables(built)
    if not rows.num_rows:
        return None
    read = samples.slice(0, len(built))
    content = sum(len(value.as_py()) for name in ("jpeg", "annotations") for value in read.column(name))
    photos, counted = _count(shards, content / len(built) + _TAR_BYTES, reading)
    return MapPlan(
        photos=photos,
        counted=counted,
        measured=len(built),
        seconds_photo=seconds / len(built),
        rows_photo=rows.num_rows / len(built),
        row_bytes=len(parquet_bytes(rows)) / rows.num_rows,
        embedding_bytes=len(rows.column("embedding")[0].as_py()),
        actors=resources.actors,
    )


def _count(shards: Sequence[str], tar_bytes_photo: float, reading: Reading) -> tuple[int, str]:
    """Count or estimate the photos of all shards; return the number and how it was found."""
    photos = tar_bytes = 0
    for uri in shards:
        filesystem, path = open_filesystem(uri)
        if uri.endswith(".json"):
            photos += len(json.loads(filesystem.cat_file(path))["images"])
        elif uri.endswith(".parquet"):
            with filesystem.open(path, "rb") as opened:
                photos += pq.ParquetFile(opened).metadata.num_rows
        else:
            tar_bytes += filesystem.size(path)
    counted = "counted"
    if tar_bytes:
        photos += round(tar_bytes / tar_bytes_photo)
        counted = f"estimated: {tar_bytes / 1e9:.2f} GB of tars, {tar_bytes_photo / 1e3:.0f} kB a photo"
    chosen = reading.chosen()
    if chosen is not None and len(chosen) < photos:
        return len(chosen), "those chosen"
    return photos, counted
