"""Run an evaluation on Ray: one kind of actor, a photo at a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from stages.evaluate.actor import EvaluatePhotos, Evaluation, read_samples
from stages.runner import Resources

HEARTBEAT_SECONDS = 10.0


def measure(
    sources: Sequence[dict[str, Any]], evaluation: Evaluation, weights: dict[str, Any], resources: Resources
) -> Iterator[pa.Table]:
    """Measure every photo of the sources; a line to stderr every ten seconds.

    Args:
        sources: rows of `read_samples`: data, shards, limit.
        evaluation: what each actor measures.
        weights: `EvaluatePhotos.weights` as they will be reported.
        resources: actors and their threads and device.

    Yields:
        Tables of `stages.evaluate.actor.RESULTS` as photos finish, in any order.
    """
    # Reading asks for no CPU: actors that hold them all could not block it.
    ray.data.DataContext.get_current().target_max_block_size = 2**16  # about a photo: work for all actors, soon
    tables = [pa.Table.from_pylist([source]) for source in sources]
    results = (
        ray.data.from_arrow(tables)
        .map_batches(read_samples, batch_size=1, batch_format="pyarrow", num_cpus=0)
        .map_batches(
            EvaluatePhotos,
            fn_constructor_args=[evaluation, weights],
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=resources.actors, max_tasks_in_flight_per_actor=2),
            num_cpus=resources.threads,
            num_gpus=1 if resources.device == "cuda" else 0,
        )
    )
    photos: set[tuple[str, str]] = set()
    said = time.monotonic()
    table: Any
    for table in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        photos.update(zip(table.column("data").to_pylist(), table.column("image_id").to_pylist(), strict=True))
        if time.monotonic() - said > HEARTBEAT_SECONDS:
            said = time.monotonic()
            print(f"{len(photos)} photos", file=sys.stderr, flush=True)
        yield table
