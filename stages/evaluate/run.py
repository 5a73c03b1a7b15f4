"""Run an evaluation on actors: sources in, tables of results out as photos finish."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from stages.engine.resources import Resources, run_actors
from stages.evaluate.actor import EvaluatePhotos, Evaluation, read_samples

HEARTBEAT_SECONDS = 10.0


def measure(
    sources: Sequence[dict[str, Any]], evaluation: Evaluation, weights: dict[str, Any], resources: Resources
) -> Iterator[pa.Table]:
    """Measure every photo of the sources; print a line to stderr every ten seconds.

    Args:
        sources: rows of `read_samples`: data, shards, limit.
        evaluation: what each actor measures; its device and threads become those of the resources.
        weights: `EvaluatePhotos.weights` as they will be reported.
        resources: actors and their threads and device.

    Yields:
        Tables of `stages.evaluate.actor.RESULTS` as photos finish, in any order.
    """
    photos: set[tuple[str, str]] = set()
    said = time.monotonic()
    units = [pa.Table.from_pylist([source]) for source in sources]
    evaluation = replace(evaluation, device=resources.device, threads=resources.threads)
    make = partial(EvaluatePhotos, evaluation, weights)
    for table in run_actors(units, make, resources, read=read_samples):
        photos.update(zip(table.column("data").to_pylist(), table.column("image_id").to_pylist(), strict=True))
        if time.monotonic() - said > HEARTBEAT_SECONDS:
            said = time.monotonic()
            print(f"{len(photos)} photos", file=sys.stderr, flush=True)
        yield table
