"""Parquet files in a folder: list their names, write one whole or not at all, read ids of many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from stages.storage import atomic
from stages.storage.location import open_filesystem

AT_ONCE = 16
"""Files read at the same time: a store answers many at once."""

Found = TypeVar("Found")


def list_names(folder: str) -> list[str]:
    """Return the names of the files in a folder, sorted; none where there is no such folder.

    Asks the store anew: what it listed before may have changed since.
    """
    filesystem, root = open_filesystem(folder)
    filesystem.invalidate_cache()
    if not filesystem.isdir(root):
        return []
    found = filesystem.ls(root, detail=True)
    return sorted(str(one["name"]).rpartition("/")[2] for one in found if one["type"] != "directory")


def table_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def write_table(table: pa.Table, uri: str) -> None:
    """Write a Parquet file that appears under its name whole or not at all."""
    atomic.write_bytes(uri, table_bytes(table))


def read_each(folder: str, names: Iterable[str], read: Callable[[pq.ParquetFile], Found]) -> Iterator[Found]:
    """Yield what `read` makes of each Parquet file of a folder, in order; some are read at the same time.

    Raises:
        pa.ArrowException: a file is no Parquet, or damaged.
        OSError: a file cannot be read.
    """
    filesystem, root = open_filesystem(folder)

    def read_one(name: str) -> Found:
        with filesystem.open(f"{root}/{name}", "rb") as opened, pq.ParquetFile(opened) as file:
            return read(file)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(read_one, names)


def read_table(folder: str, name: str) -> pa.Table:
    """Return the rows of a Parquet file of a folder. Errors as for `read_each`."""
    return next(read_each(folder, [name], lambda file: file.read()))


def read_column(folder: str, names: Iterable[str], column: str) -> pa.ChunkedArray:
    """Return a column of strings of several Parquet files of a folder, in order (see `read_each`)."""

    def one(file: pq.ParquetFile) -> pa.ChunkedArray:
        return file.read([column]).column(0)

    chunks: list[Any] = [chunk for found in read_each(folder, names, one) for chunk in found.chunks]
    return pa.chunked_array(chunks, pa.string())
