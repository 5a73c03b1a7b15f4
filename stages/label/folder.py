"""The folder OUT/labels: which images it already holds, and how a file gets into it.

A file is one unit of work. It appears under its final name whole or not at all, and that name follows from the images
in it: a worker that outlives its killed driver and writes a moment late replaces a file by the same file, and no image
gets two rows.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import labels
from schemas.conform import conform
from schemas.labels import PASSING
from stages.storage import atomic
from stages.storage.location import open_filesystem, redact

_UNIT = r"labels-[0-9a-f]{24}\.parquet"
_OWN = re.compile(_UNIT)
_OWN_PART = re.compile(rf"\.{_UNIT}\.[0-9a-f]{{32}}{re.escape(atomic.PART)}")


def unit_name(image_ids: list[str]) -> str:
    """Return the file name of a unit of images."""
    return f"labels-{hashlib.sha256(' '.join(image_ids).encode()).hexdigest()[:24]}.parquet"


def write_unit(table: pa.Table, folder: str) -> str:
    """Write one unit of label rows into a folder; returns its file name."""
    name = unit_name(table.column("image_id").to_pylist())
    write_table(table, f"{folder}/{name}")
    return name


def write_table(table: pa.Table, uri: str) -> None:
    """Write a Parquet file that appears under its name whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    atomic.write_bytes(uri, sink.getvalue().to_pybytes())


def done_images(folder: str) -> set[str]:
    """Return ids of the images that have a row; remove what killed writes left behind.

    Removed are files of a run's own names alone: unfinished ones, and units that cannot be read. Others are never
    touched; those that hold rows count.

    Raises:
        OSError: the system refuses to read a file.
    """
    filesystem, root = open_filesystem(folder)
    if not filesystem.exists(root):
        return set()
    done: set[str] = set()
    for path in sorted(filesystem.ls(root, detail=False)):
        name = path.rpartition("/")[2]
        if _OWN_PART.fullmatch(name):
            filesystem.rm_file(path)
        elif name.endswith(".parquet"):
            ids = _image_ids(filesystem, path)
            if ids is None and _OWN.fullmatch(name):
                filesystem.rm_file(path)
            done.update(ids or ())
    return done


class FailedRow(NamedTuple):
    """A row whose failure may have passed: the file in OUT/labels that holds it, and its reason."""

    file: str
    reason: str


def passing_failures(folder: str) -> dict[str, FailedRow]:
    """Return by image id the rows whose failure may have passed (`PASSING`); those of a run's own files alone."""
    filesystem, root = open_filesystem(folder)
    found: dict[str, FailedRow] = {}
    for path in sorted(filesystem.ls(root, detail=False)) if filesystem.exists(root) else []:
        name = path.rpartition("/")[2]
        if not _OWN.fullmatch(name):
            continue
        with filesystem.open(path, "rb") as file:
            rows = pq.read_table(file, columns=["image_id", "reason"])
        failed = rows.filter(pc.is_in(rows.column("reason"), pa.array(PASSING, pa.string()))).to_pylist()
        found |= {row["image_id"]: FailedRow(name, row["reason"]) for row in failed}
    return found


def replace_rows(rows: pa.Table, folder: str, name: str) -> None:
    """Put label rows in the places of those of the same images in a file, which at no time lacks one or has two."""
    filesystem, root = open_filesystem(folder)
    with filesystem.open(f"{root}/{name}", "rb") as file:
        before = conform(pq.read_table(file), labels.SCHEMA)
    ids = rows.column("image_id").combine_chunks()
    both = pa.concat_tables([before.filter(pc.invert(pc.is_in(before.column("image_id"), ids))), rows])
    order = pc.index_in(before.column("image_id"), both.column("image_id").combine_chunks())
    write_table(both.take(order), f"{folder}/{name}")


def refuse_foreign_tables(folder: str) -> None:
    """Refuse Parquet files in a folder of labels that no run made and that cannot be read as labels.

    Whoever reads the labels would stumble over them, after the work.

    Raises:
        ValueError: there is one; the message names it.
        OSError: the system refuses to read a file.
    """
    filesystem, root = open_filesystem(folder)
    for path in sorted(filesystem.ls(root, detail=False)) if filesystem.isdir(root) else []:
        name = path.rpartition("/")[2]
        if not name.endswith(".parquet") or name[0] in "._" or _OWN.fullmatch(name):
            continue
        if _image_ids(filesystem, path) is None:
            raise ValueError(f"{redact(folder)}/{name}: no table of labels, and not of a run; move it elsewhere")


def _image_ids(filesystem: Any, path: str) -> list[str] | None:
    """Return the ids of a file's rows; None where it is no whole table of labels.

    A name that no run makes is not enough: other tables have image ids, too.
    """
    try:
        with filesystem.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
            if not _OWN.fullmatch(path.rpartition("/")[2]):
                conform(parquet.schema_arrow.empty_table(), labels.SCHEMA)
            table = parquet.read(["image_id"])
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:  # the system's refusal, which says nothing of the file
            raise
        return None
    return table.column(0).to_pylist() if table.num_columns else None
