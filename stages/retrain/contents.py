"""Read photos for their content alone: digests of photos and of annotations, of listings and of annotated shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from stages.annotations.read import read_annotated
from stages.corpus.fetch import FetchError, fetch_each

AT_ONCE = 8
"""Photos of a listing that a task reads at the same time: a store answers many at once."""

ROWS = 256
"""Photos of a table."""

CONTENTS = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("content_sha256", pa.string()),
        pa.field("annotations_sha256", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
"""A row is a photo, with a digest of its annotations where it has some, or a problem and nothing else."""


def read_contents(unit: pa.Table) -> Iterator[pa.Table]:
    """Yield tables of `CONTENTS` of a unit: rows of a listing with the column `images`, or `shard` and `source`."""
    rows = _of_shards(unit) if "shard" in unit.column_names else _of_listing(unit)
    held: list[dict[str, Any]] = []
    for row in rows:
        held.append(row)
        if len(held) == ROWS:
            yield pa.Table.from_pylist(held, schema=CONTENTS)
            held = []
    yield pa.Table.from_pylist(held, schema=CONTENTS)


def _of_shards(unit: pa.Table) -> Iterator[dict[str, Any]]:
    for row in unit.to_pylist():
        problems: list[str] = []
        for sample in read_annotated(row["shard"], problems.append):
            annotations = json.dumps([sample.annotations, sample.crowds], sort_keys=True)
            yield {
                "source": row["source"],
                "image_id": sample.id,
                "content_sha256": _digest(sample.jpeg),
                "annotations_sha256": _digest(annotations.encode()),
            }
        yield from ({"problem": problem} for problem in problems)


def _of_listing(unit: pa.Table) -> Iterator[dict[str, Any]]:
    rows = unit.to_pylist()
    reads = fetch_each(rows, rows[0]["images"])

    def one(row: dict[str, Any], read: Callable[[], bytes]) -> dict[str, Any]:
        try:
            return {"image_id": row["image_id"], "content_sha256": _digest(read())}
        except FetchError as error:
            return {"problem": f"{row['uri']}: {error}"}

    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(one, rows, reads)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
