"""The folder OUT/labels: which images it already holds, and how a file gets into it.

A file is one unit of work. It appears under its final name whole or not at all, and that name follows from the images
in it: a worker that outlives its killed driver and writes a moment late replaces a file by the same file, and no image
gets two rows.
"""

from __future__ import annotations

import hashlib

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from stages.storage import atomic


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
    """Return ids of the images that have a row; remove files that cannot be read and leftovers of killed writes."""
    filesystem, root = fsspec.core.url_to_fs(folder)
    if not filesystem.exists(root):
        return set()
    done: set[str] = set()
    for path in sorted(filesystem.ls(root, detail=False)):
        if path.endswith(atomic.PART):
            filesystem.rm_file(path)
        elif path.endswith(".parquet"):
            try:
                with filesystem.open(path, "rb") as file:
                    ids = pq.read_table(file, columns=["image_id"]).column(0).to_pylist()
            except (pa.ArrowInvalid, OSError):
                filesystem.rm_file(path)
                continue
            done.update(ids)
    return done
