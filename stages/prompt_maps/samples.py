"""Read the photos of prompt maps: annotated shards in, tables of `SAMPLES` out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stages.annotations.chosen import chosen_photos
from stages.annotations.read import read_annotated

ROWS_PER_FILE = 16

SAMPLES = pa.schema(
    [
        pa.field("shard", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("jpeg", pa.binary()),
        pa.field("annotations", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
"""Schema of `read_samples`: a row is a photo and its annotations as JSON text, or a problem and nothing else."""


@dataclass(frozen=True)
class Reading:
    """Choice of the photos to read.

    Attributes:
        images: where the photos of labels are, if not where they were labelled.
        only: URI of a table of schemas/curation.py; the photos that it chose are read and no others.
    """

    images: str | None = None
    only: str | None = None

    def chosen(self) -> frozenset[str] | None:
        """Return the ids that `only` chose; None where all photos are read.

        Raises:
            ValueError: it is no table of a curation, or chose nothing.
        """
        return None if self.only is None else chosen_photos(self.only)


def read_samples(shards: pa.Table, reading: Reading) -> Iterator[pa.Table]:
    """Yield the photos and annotations of annotated shards, sixteen a table of `SAMPLES`.

    Args:
        shards: column `shard`, paths or URIs as `stages.annotations.shards.list_shards` gives them.
        reading: which photos to read.
    """
    chosen = reading.chosen()
    for uri in shards.column("shard").to_pylist():
        problems: list[str] = []
        rows: list[dict[str, Any]] = []
        for sample in read_annotated(uri, problems.append, reading.images):
            if chosen is not None and sample.id not in chosen:
                continue
            annotations = json.dumps(sample.annotations)
            rows.append({"shard": uri, "image_id": sample.id, "jpeg": sample.jpeg, "annotations": annotations})
            if len(rows) == ROWS_PER_FILE:
                yield pa.Table.from_pylist(rows, schema=SAMPLES)
                rows = []
        rows.extend({"problem": problem} for problem in problems)
        if rows:
            yield pa.Table.from_pylist(rows, schema=SAMPLES)
