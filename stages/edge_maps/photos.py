"""Read photos, of annotated shards and of listings, whose edges are not yet known: tables of `PHOTOS`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stages.annotations.read import read_annotated
from stages.corpus.fetch import FetchError, fetch

ROWS_PER_FILE = 32

PHOTOS = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("content_sha256", pa.string()),
        pa.field("photo", pa.binary()),
        pa.field("problem", pa.string()),
    ]
)
"""Schema of `ReadPhotos`: a row is a photo as stored, or a problem and nothing else."""


@dataclass(frozen=True)
class ReadPhotos:
    """Reader of units: a unit has the column `shard` (URIs) or the columns of a listing and `images`.

    Attributes:
        done: SHA-256 of photos that are passed over.
    """

    done: frozenset[str] = frozenset()

    def __call__(self, unit: pa.Table) -> Iterator[pa.Table]:
        """Yield the photos of a unit, `ROWS_PER_FILE` a table."""
        problems: list[str] = []
        rows: list[dict[str, Any]] = []
        for name, photo in _photos(unit, problems):
            digest = hashlib.sha256(photo).hexdigest()
            if digest not in self.done:
                rows.append({"name": name, "content_sha256": digest, "photo": photo})
            if len(rows) == ROWS_PER_FILE:
                yield pa.Table.from_pylist(rows, schema=PHOTOS)
                rows = []
        rows.extend({"problem": problem} for problem in problems)
        if rows:
            yield pa.Table.from_pylist(rows, schema=PHOTOS)


def _photos(unit: pa.Table, problems: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield names and encoded bytes; a line in `problems` for what cannot be read."""
    if "shard" in unit.column_names:
        for uri in unit.column("shard").to_pylist():
            yield from ((sample.id, sample.jpeg) for sample in read_annotated(uri, problems.append))
        return
    for row in unit.to_pylist():
        try:
            yield row["file_name"], fetch(row, row["images"])
        except FetchError as error:
            problems.append(f"{row['uri']}: {error}")
