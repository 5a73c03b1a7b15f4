"""Read the tables of a labelling run: a batch of rows at a time, from any file system, naming what cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas import labels as labels_schema
from schemas.conform import conform
from stages.label.folder import superseded
from stages.storage.location import open_filesystem

ROWS_PER_BATCH = 64
"""Rows held at a time: with some hundred masks an image, a few MB."""


class UnreadableTable(ValueError):
    """A Parquet file that cannot be read as a labels table; the message is one line and names the file."""


@dataclass(frozen=True)
class LabelFiles:
    """The Parquet files of one labels folder, sorted by name."""

    filesystem: Any
    """fsspec's file system of the folder."""
    paths: tuple[str, ...]
    """Paths in that file system."""


def find_labels(labels: str) -> LabelFiles:
    """Find the files of a labels folder.

    Args:
        labels: the output of a run (`OUT`), or its labels (`OUT/labels`); a local folder or an fsspec URI. Names
            starting with `.` or `_` are not labels.

    Raises:
        ValueError: there is no such folder, or no Parquet file in it.
    """
    filesystem, root = open_filesystem(labels)
    folder, folder_uri = root.rstrip("/") + "/labels", labels.rstrip("/") + "/labels"
    if not filesystem.isdir(folder) and not filesystem.exists(f"{root.rstrip('/')}/manifest.json"):
        folder, folder_uri = root, labels  # the tables themselves; beside a manifest they would be a stranger's
    filesystem.invalidate_cache()
    listed = filesystem.ls(folder, detail=False) if filesystem.isdir(folder) else []
    names = [path.rsplit("/", 1)[-1] for path in listed]
    gone = superseded(folder_uri, names)
    paths = sorted(f"{folder.rstrip('/')}/{name}" for name in names if _is_labels(name) and name not in gone)
    if not paths:
        raise ValueError(
            f"{labels}: no labels/*.parquet there; give the --out of a labelling run, or its labels folder"
        )
    return LabelFiles(filesystem, tuple(paths))


def _is_labels(name: str) -> bool:
    """Return whether a file of that name holds labels; images.parquet is the listing, of a run without labels yet."""
    return name.endswith(".parquet") and name[0] not in "._" and name != "images.parquet"


def read_batches(files: LabelFiles, path: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of one labels file, `ROWS_PER_BATCH` at a time.

    Args:
        files: what `find_labels` found.
        path: one of its paths.
        columns: read these alone; all when None.

    Yields:
        tables of `schemas.labels.SCHEMA`, or of its `columns`. Columns that an older version lacks are null.

    Raises:
        UnreadableTable: no Parquet (a killed write leaves such a file), damaged, written by a newer version, or not
            a labels table.
    """
    fields = [labels_schema.SCHEMA.field(name) for name in columns or labels_schema.SCHEMA.names]
    schema = pa.schema(fields, metadata=labels_schema.SCHEMA.metadata)
    try:
        with files.filesystem.open(path, "rb") as opened, pq.ParquetFile(opened) as parquet:
            _check_version(parquet.schema_arrow)
            present = None if columns is None else [name for name in columns if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(ROWS_PER_BATCH, columns=present):
                yield conform(pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata), schema)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableTable(f"{path}: {' '.join(str(error).split())}") from error


def read_labels(labels: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of a whole labels folder, `ROWS_PER_BATCH` at a time, file by file in the order of their names.

    Raises:
        ValueError: see `find_labels`.
        UnreadableTable: see `read_batches`; the files before it have been yielded.
    """
    files = find_labels(labels)
    for path in files.paths:
        yield from read_batches(files, path, columns)


def _check_version(schema: pa.Schema) -> None:
    version = (schema.metadata or {}).get(b"version", b"1").decode()
    if not version.isdecimal() or int(version) > labels_schema.VERSION:
        raise ValueError(f"written as labels version {version}; this program reads up to {labels_schema.VERSION}")
