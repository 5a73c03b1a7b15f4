"""The files of prompt maps: which rows they hold, and how one is opened to read from."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.conform import conform
from schemas.prompt_maps import SCHEMA
from stages.storage.location import redact

_IDENTITY = ["image_id", "sam", "sam_sha256"]  # what the list of rows needs, and the footers hold
_BLOCK = 1 << 20  # bytes read ahead from a store: a row, 0.65 MB with an embedding of 32×32 cells, in one request


class Place(NamedTuple):
    """Where a row lies."""

    image_id: str
    uri: str
    group: int
    row: int


def parquet_bytes(table: pa.Table) -> bytes:
    """A file of rows of schemas/prompt_maps.py, each of which can be read alone, quickly."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=1, compression="lz4", use_dictionary=False, write_statistics=_IDENTITY)
    return buffer.getvalue()


def list_rows(folders: Sequence[str]) -> tuple[list[Place], set[tuple[str, str]]]:
    """The rows of every `*.parquet` of the folders, and the name and digest of the model that made their embeddings.

    Raises:
        ValueError: a folder without such a file or without a row, or a file that holds no prompt maps.
    """
    files = [file for folder in folders for file in _files(folder)]
    with ThreadPoolExecutor(16) as threads:  # a store answers many at once
        listed = list(threads.map(_list, files))
    places = [place for of_file, _ in listed for place in of_file]
    if not places:
        raise ValueError(f"{', '.join(map(redact, folders))}: prompt maps without a row")
    return places, {maker for _, makers in listed for maker in makers}


def open_file(uri: str) -> pq.ParquetFile:
    """A file of prompt maps; kept open for this thread of this process."""
    return _opened(uri, os.getpid(), threading.get_ident())


@lru_cache(maxsize=64)
def _opened(uri: str, process: int, thread: int) -> pq.ParquetFile:
    # By process and thread: a handle that was forked or is shared would share its position in the file.
    filesystem, path = fsspec.url_to_fs(uri)
    return pq.ParquetFile(filesystem.open(path, "rb", block_size=_BLOCK))


def _files(folder: str) -> list[str]:
    filesystem, path = fsspec.url_to_fs(folder)
    found = sorted(file for file in filesystem.find(path, maxdepth=1) if file.endswith(".parquet"))
    if not found:
        raise ValueError(f"{redact(folder)}: no prompt maps (*.parquet); make them with pipelines/build_prompt_maps.py")
    # Put back on the folder as it was given: what `unstrip_protocol` makes of it may have lost its credentials.
    return [f"{folder.rstrip('/')}/{file.rpartition('/')[2]}" for file in found]


def _list(uri: str) -> tuple[list[Place], set[tuple[str, str]]]:
    """The rows of one file, and the names and digests of the models that made it."""
    with fsspec.open(uri, "rb", block_size=_BLOCK) as opened:
        try:
            file = pq.ParquetFile(opened)
            conform(file.schema_arrow.empty_table(), SCHEMA)
            groups = [_from_footer(file.metadata.row_group(group)) for group in range(file.num_row_groups)]
            listed = [
                [group] if group else file.read_row_group(number, columns=_IDENTITY, use_threads=False).to_pylist()
                for number, group in enumerate(groups)
            ]
        except (pa.ArrowException, ValueError, OSError) as error:
            raise ValueError(f"{redact(uri)}: not prompt maps: {' '.join(str(error).split())}") from error
    places = [
        Place(values["image_id"], uri, group, row)
        for group, rows in enumerate(listed)
        for row, values in enumerate(rows)
    ]
    return places, {(values["sam"], values["sam_sha256"]) for rows in listed for values in rows}


def _from_footer(group: pq.RowGroupMetaData) -> dict[str, Any] | None:
    """The values of a row group of one row, which its statistics hold, so that nothing more need be read."""
    statistics = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    values = {name: statistics.get(name) for name in _IDENTITY}
    if group.num_rows != 1 or not all(value is not None and value.has_min_max for value in values.values()):
        return None
    return {name: value.min for name, value in values.items() if value is not None}


def refuse_to_add(folder: str) -> None:
    """Refuse a folder that holds prompt maps.

    Raises:
        ValueError: it does.
    """
    filesystem, path = fsspec.url_to_fs(folder)
    if filesystem.glob(f"{path}/*.parquet"):
        raise ValueError(f"{redact(folder)} holds prompt maps already; give another folder")
