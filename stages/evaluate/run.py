"""Run an evaluation on actors: sources in, a part a photo, and a table of all results."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from schemas.metrics import SCHEMA
from stages.annotations.job import Done, PhotoJob
from stages.annotations.samples import ReadSamples, Source
from stages.annotations.shards import list_shards
from stages.config.strategy_spec import preset_values
from stages.engine.resources import Resources
from stages.evaluate.actor import RESULTS, EvaluatePhotos, Evaluation
from stages.storage.location import absolute, printable, redact

WRITTEN = ("metrics.parquet", "index.html", "plots/", "evaluation.json", "table.md")
"""Names that an evaluation writes into OUT beside its parts."""


def list_sources(data: Sequence[str], limit: int | None) -> list[Source]:
    """List the photos to measure; each `--data` is a source of its own, of at most `limit` photos.

    Raises:
        ValueError: no shard there.
    """
    found = {printable(redact(each)): list_shards(absolute(each)) for each in data}
    return [Source(name, tuple(shards), limit) for name, shards in found.items()]


def prepare_evaluation(
    sources: Sequence[Source], evaluation: Evaluation, weights: dict[str, Any], out: str
) -> PhotoJob:
    """Check OUT before the work; write nothing.

    Args:
        sources: each is measured on its own.
        evaluation: what is measured.
        weights: `EvaluatePhotos.weights` as they will be reported.
        out: folder or URI, without a slash at its end.

    Raises:
        ValueError: OUT is another run's, or cannot be written.
    """
    configuration = {
        "data": {source.name: source.limit for source in sources},
        "sam": list(evaluation.sams),
        "prompts": [spec.text for spec in evaluation.strategies],
        "seed": evaluation.seed,
        "weights": weights,
    }
    if presets := preset_values(evaluation.strategies):
        configuration["presets"] = presets
    job = PhotoJob(out, sources, ReadSamples(rows=1), SCHEMA, configuration)
    job.check(*WRITTEN)
    return job


def measure(
    job: PhotoJob, evaluation: Evaluation, weights: dict[str, Any], resources: Resources, max_seconds: float
) -> tuple[Done, pa.Table]:
    """Measure the photos that are not yet.

    Args:
        job: of `prepare_evaluation`.
        evaluation: what each actor measures; its device and threads become those of the resources.
        weights: as they will be reported.
        resources: actors and their threads and device.
        max_seconds: longest time for a photo.

    Returns:
        What was done, and a table of `stages.evaluate.actor.RESULTS` of all photos, in no order.
    """
    evaluation = replace(evaluation, device=resources.device, threads=resources.threads)
    done = job.run(partial(EvaluatePhotos, evaluation, weights), resources, max_seconds)
    return done, results_of(done)


def results_of(done: Done) -> pa.Table:
    """Return the results of all photos; one that could not be measured is a row `failed`."""
    rows = [
        {
            "data": outcome.source,
            "image_id": outcome.image_id or posixpath.basename(outcome.shard.rstrip("/")),
            "sam": "",
            "prompts": "",
            "metric": "failed",
            "value": 1.0,
            "message": line,
        }
        for outcome in done.outcomes
        if outcome.failed
        for line in outcome.lines()
    ]
    measured = [
        table.append_column(RESULTS.field("message"), pa.nulls(table.num_rows, pa.string())) for table in done.tables
    ]
    return pa.concat_tables([pa.Table.from_pylist(rows, schema=RESULTS), *(table.cast(RESULTS) for table in measured)])
