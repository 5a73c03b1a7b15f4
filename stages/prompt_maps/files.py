"""Files of prompt maps: how they are written, the rows that folders of them hold, and a file opened to be read.

OUT/index/rows.parquet says which ids each file has. A training reads it in one request; only files that it does not
tell of, or that have another size there, are opened before the first step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.spec import AbstractBufferedFile

from schemas.conform import conform
from schemas.prompt_maps import SCHEMA
from stages.storage.location import open_filesystem, redact
from stages.storage.parts import Part
from stages.storage.tables import write_table

INDEX = "index/rows.parquet"
"""Place of the index in a folder of prompt maps."""

_IDENTITY = ["image_id", "sam", "sam_sha256"]  # what the list of rows needs, and the footers hold
_BLOCK = 1 << 20  # bytes read ahead from a store: a row, 0.65 MB with an embedding of 32×32 cells, in one request

HOW = {"row_group_size": 1, "compression": "lz4", "use_dictionary": False, "write_statistics": _IDENTITY}
"""Options with which files of prompt maps are written: each row in a group of its own, to be read alone."""

_INDEX = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("sam", pa.string()),
        pa.field("sam_sha256", pa.string()),
        pa.field("image_ids", pa.list_(pa.string())),
    ]
)
"""A row is a file of one model's maps, with the ids of its row groups of one row each."""

_ROWS = pa.schema([("image_id", pa.string()), ("file", pa.int32()), ("group", pa.int32()), ("row", pa.int32())])

Maker = tuple[str, str]
"""Name of a model, and digest of its weights."""


@dataclass(frozen=True)
class Rows:
    """Rows of folders of prompt maps.

    Attributes:
        uris: of the files, sorted.
        sizes: bytes of each; None where the store does not tell.
        places: `image_id`, number of the `file`, row `group`, `row` in the group; sorted by these.
        makers: models of their embeddings.
    """

    uris: list[str]
    sizes: list[int | None]
    places: pa.Table
    makers: set[Maker]


def list_rows(folders: Sequence[str]) -> Rows:
    """List the rows of every `*.parquet` of the folders, by their indexes where these tell.

    Raises:
        ValueError: a folder without such a file or without a row, or a file that holds no prompt maps.
    """
    listed = [_files(folder) for folder in folders]
    sizes = {uri: size for files in listed for uri, size in files.items()}
    uris = sorted(sizes)
    numbers = {uri: number for number, uri in enumerate(uris)}
    tables, makers = list[pa.Table](), set[Maker]()
    unknown: list[str] = []
    for folder, files in zip(folders, listed, strict=True):
        index = _known(folder, files)
        tables.append(_from_index(folder, index, numbers))
        makers |= {(row["sam"], row["sam_sha256"]) for row in _distinct(index)}
        told = set(index.column("file").to_pylist())
        unknown += [uri for uri in files if uri.rpartition("/")[2] not in told]
    columns: dict[str, list[Any]] = {name: [] for name in _ROWS.names}
    for uri, found in zip(unknown, _read_footers(unknown, sizes), strict=True):
        makers |= found.makers
        for name, values in found.places(numbers[uri]).items():
            columns[name] += values
    places = pa.concat_tables([*tables, pa.table(columns, schema=_ROWS)]).combine_chunks()
    if not places.num_rows:
        raise ValueError(f"{', '.join(map(redact, folders))}: prompt maps without a row")
    return Rows(uris, [sizes[uri] for uri in uris], places.sort_by([(n, "ascending") for n in _ROWS.names]), makers)


def write_index(folder: str) -> None:
    """Write which ids each file of a folder has, so that later trainings need not open them all.

    Files that an earlier index tells of are not opened; files of another layout than `HOW` stay without an entry.

    Raises:
        ValueError: a file that holds no prompt maps.
        CannotWrite: the system or the store refuses.
    """
    files = _files(folder)
    known = _known(folder, files)
    told = set(known.column("file").to_pylist())
    new = [uri for uri in files if uri.rpartition("/")[2] not in told]
    entries = [
        {"file": uri.rpartition("/")[2], "bytes": files[uri], "image_ids": found.ids}
        | dict(zip(("sam", "sam_sha256"), next(iter(found.makers), (None, None)), strict=True))
        for uri, found in zip(new, _read_footers(new, files), strict=True)
        if found.groups == list(range(len(found.ids))) and len(found.makers) <= 1
    ]
    table = pa.concat_tables([known, pa.Table.from_pylist(entries, schema=_INDEX)])
    write_table(table.sort_by("file"), f"{folder.rstrip('/')}/{INDEX}")


def open_file(uri: str, size: int | None = None) -> pq.ParquetFile:
    """Open a file of prompt maps; it stays open for this thread of this process.

    Args:
        uri: of the file.
        size: its bytes, where they are known: a store need not be asked.
    """
    return _opened(uri, size, os.getpid(), threading.get_ident())


@lru_cache(maxsize=64)
def _opened(uri: str, size: int | None, process: int, thread: int) -> pq.ParquetFile:
    # By process and thread: a handle that was forked or is shared would share its position in the file.
    return pq.ParquetFile(_open(uri, size))


def _open(uri: str, size: int | None) -> BinaryIO:
    filesystem, path = open_filesystem(uri)
    if size is None:
        return cast(BinaryIO, filesystem.open(path, "rb", block_size=_BLOCK))
    opened = filesystem.open(path, "rb", block_size=_BLOCK, size=size)
    if isinstance(opened, AbstractBufferedFile):
        opened.details = {"name": path, "size": size, "type": "file"}  # else s3fs asks for them before it reads
    return cast(BinaryIO, opened)


def _files(folder: str) -> dict[str, int | None]:
    """Return the files of a folder with their sizes, sorted by name."""
    filesystem, path = open_filesystem(folder)
    filesystem.invalidate_cache(path)  # others write there
    found = filesystem.find(path, maxdepth=1, detail=True)
    filesystem.invalidate_cache(path)  # else a store keeps all that it ever listed
    # Put back on the folder as it was given: what `unstrip_protocol` makes of it may have lost its credentials.
    files = {
        f"{folder.rstrip('/')}/{file.rpartition('/')[2]}": details.get("size")
        for file, details in sorted(found.items())
        if file.endswith(".parquet")
    }
    if not files:
        raise ValueError(f"{redact(folder)}: no prompt maps (*.parquet); make them with pipelines/build_prompt_maps.py")
    return files


def _known(folder: str, files: dict[str, int | None]) -> pa.Table:
    """Return the index of a folder without files that are not there any more, or have another size."""
    filesystem, path = open_filesystem(folder)
    try:
        index = pq.read_table(pa.BufferReader(filesystem.cat_file(f"{path}/{INDEX}"))).select(_INDEX.names)
    except (FileNotFoundError, pa.ArrowException, KeyError):  # it is made again by the run that makes more maps
        return _INDEX.empty_table()
    root = folder.rstrip("/")
    pairs = zip(index.column("file").to_pylist(), index.column("bytes").to_pylist(), strict=True)
    return index.filter(pa.array([files.get(f"{root}/{file}", -1) == size for file, size in pairs], pa.bool_()))


def _from_index(folder: str, index: pa.Table, numbers: dict[str, int]) -> pa.Table:
    """Return the rows of the files of an index."""
    root = folder.rstrip("/")
    ids = index.column("image_ids").combine_chunks()
    counts = np.asarray(pc.list_value_length(ids))
    files = np.array([numbers[f"{root}/{file}"] for file in index.column("file").to_pylist()], np.int32)
    starts = np.cumsum(counts) - counts
    groups = np.arange(counts.sum()) - np.repeat(starts, counts)
    columns = [ids.flatten(), np.repeat(files, counts), groups.astype(np.int32), np.zeros(len(groups), np.int32)]
    return pa.table([pa.array(column) for column in columns], schema=_ROWS)


def _distinct(index: pa.Table) -> list[dict[str, str]]:
    """Return the models of an index's files, each once."""
    pairs = index.filter(pc.is_valid(index.column("sam"))).group_by(["sam", "sam_sha256"]).aggregate([])
    return pairs.to_pylist()


class _Listed(NamedTuple):
    """Rows of one file: their ids, row groups and rows in these, and the models that made it."""

    ids: list[str]
    groups: list[int]
    rows: list[int]
    makers: set[Maker]

    def places(self, file: int) -> dict[str, list[Any]]:
        """Return the columns that `Rows.places` has."""
        return {"image_id": self.ids, "file": [file] * len(self.ids), "group": self.groups, "row": self.rows}


def _read_footers(uris: Sequence[str], sizes: dict[str, int | None]) -> Iterator[_Listed]:
    """Yield the rows of files, in order; some are opened at the same time."""
    with ThreadPoolExecutor(16) as threads:  # a store answers many at once
        for start in range(0, len(uris), 4096):  # what is waited for is in memory
            yield from threads.map(lambda uri: _read_footer(uri, sizes[uri]), uris[start : start + 4096])


def _read_footer(uri: str, size: int | None) -> _Listed:
    with _open(uri, size) as opened:
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
    places = [(group, row, values) for group, rows in enumerate(listed) for row, values in enumerate(rows)]
    return _Listed(
        [values["image_id"] for *_, values in places],
        [group for group, *_ in places],
        [row for _, row, _ in places],
        {(values["sam"], values["sam_sha256"]) for *_, values in places},
    )


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
