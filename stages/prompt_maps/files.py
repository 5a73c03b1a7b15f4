"""Files of prompt maps: encode rows into one, list the rows of folders, open one to read."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.conform import conform
from schemas.prompt_maps import SCHEMA
from stages.storage.location import open_filesystem, redact
from stages.storage.parts import Part

_IDENTITY = ["image_id", "sam", "sam_sha256"]  # what the list of rows needs, and the footers hold
_BLOCK = 1 << 20  # bytes read ahead from a store: a row, 0.65 MB with an embedding of 32×32 cells, in one request


class Place(NamedTuple):
    """Place of a row: its id, file, row group, and row in the group."""

    image_id: str
    uri: str
    group: int
    row: int


HOW = {"row_group_size": 1, "compression": "lz4", "use_dictionary": False, "write_statistics": _IDENTITY}
"""Options with which files of prompt maps are written: each row in a group of its own, to be read alone."""


def list_rows(folders: Sequence[str]) -> tuple[list[Place], set[tuple[str, str]]]:
    """List the rows of every `*.parquet` of the folders, and names and digests of the models of their embeddings.

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
    """Open a file of prompt maps; it stays open for this thread of this process."""
    return _opened(uri, os.getpid(), threading.get_ident())


@lru_cache(maxsize=64)
def _opened(uri: str, process: int, thread: int) -> pq.ParquetFile:
    # By process and thread: a handle that was forked or is shared would share its position in the file.
    filesystem, path = open_filesystem(uri)
    return pq.ParquetFile(filesystem.open(path, "rb", block_size=_BLOCK))


def _files(folder: str) -> list[str]:
    filesystem, path = open_filesystem(folder)
    filesystem.invalidate_cache(path)  # others write there
    found = sorted(file for file in filesystem.find(path, maxdepth=1) if file.endswith(".parquet"))
    if not found:
        raise ValueError(f"{redact(folder)}: no prompt maps (*.parquet); make them with pipelines/build_prompt_maps.py")
    # Put back on the folder as it was given: what `unstrip_protocol` makes of it may have lost its credentials.
    return [f"{folder.rstrip('/')}/{file.rpartition('/')[2]}" for file in found]


def _list(uri: str) -> tuple[list[Place], set[tuple[str, str]]]:
    """List the rows of one file, and the names and digests of the models that made it."""
    filesystem, path = open_filesystem(uri)
    with filesystem.open(path, "rb", block_size=_BLOCK) as opened:
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
    """Return the identity of a row group of one row, from its statistics alone; None where they do not hold it."""
    statistics = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    values = {name: statistics.get(name) for name in _IDENTITY}
    if group.num_rows != 1 or not all(value is not None and value.has_min_max for value in values.values()):
        return None
    return {name: value.min for name, value in values.items() if value is not None}


def refuse_to_add(folder: str) -> None:
    """Refuse a folder that holds tables which are not of a run that says what it was: trainings would read them too.

    Raises:
        ValueError: it holds one.
    """
    filesystem, path = open_filesystem(folder)
    if not filesystem.isdir(path):
        return
    found = sorted(file.rpartition("/")[2] for file in filesystem.ls(path, detail=False))
    begun = "manifest.json" in found
    for name in found:
        if name.endswith(".parquet") and not (begun and Part.parse(name)):
            raise ValueError(
                f"{redact(folder)} holds prompt maps already, or other tables ({name}); give another folder"
            )
