"""Settle the labels of a run that is done: join small files of each archive to larger ones, and count what they hold.

One pass over the tables, archive by archive; in tasks on the cluster where there are many files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.labels import SCHEMA
from stages.engine.resources import start
from stages.engine.steps import Tasks, run_steps
from stages.label.folder import JOINED, is_own, joined_name, usable_files
from stages.results.gathered import COLUMNS, Gathered, gather
from stages.results.read import LabelFiles, read_batches
from stages.storage.atomic import write_path
from stages.storage.location import open_filesystem

BYTES_A_FILE = 256 << 20
"""Files are joined until they have as many bytes: within the 64 to 512 MB that engines like."""

LARGE = BYTES_A_FILE // 4
"""Bytes of a file that is left as it is."""

FILES_HERE = 256
"""Files that this process settles alone; more are settled in tasks."""


def settle(out: str) -> Gathered:
    """Join the label files of a run, and count what they hold.

    Raises:
        ValueError: a file cannot be read as labels.
        OSError: a file cannot be read or written.
    """
    folder = f"{out}/labels"
    units = [pa.table({"key": [key], "names": [names]}) for key, names in usable_files(folder).items() if names]
    work = partial(_settle, folder=folder)
    told: Iterator[pa.Table]
    if sum(len(unit.column("names")[0]) for unit in units) <= FILES_HERE:
        told = chain.from_iterable(map(work, units))
    else:
        told = run_steps(units, [Tasks(work, start().actors)])
    found = Gathered()
    for table in told:
        found.merge(Gathered.of_json(table.column("gathered")[0].as_py()))
    return found


def _settle(unit: pa.Table, folder: str) -> Iterator[pa.Table]:
    ((key, names),) = zip(unit.column("key").to_pylist(), unit.column("names").to_pylist(), strict=True)
    kept = join_files(folder, names, key)
    filesystem, root = open_filesystem(folder)
    files = LabelFiles(filesystem, tuple(f"{root}/{name}" for name in kept))
    found = gather(batch for path in files.paths for batch in read_batches(files, path, COLUMNS))
    yield pa.table({"gathered": [found.to_json()]})


def join_files(folder: str, names: Sequence[str], key: str) -> list[str]:
    """Join small label files of one archive; return the names of those that are left.

    A joined file is there whole before those in it are removed, and names them: killed in between, a later run removes
    them, and readers leave them out (`stages.label.folder.superseded`).
    """
    filesystem, root = open_filesystem(folder)
    kept: list[str] = []
    group: list[str] = []
    held = 0
    for name in [*sorted(names), None]:
        size = 0 if name is None else filesystem.size(f"{root}/{name}") or 0
        if name is None or held + size > BYTES_A_FILE or size >= LARGE:
            kept += [_join(folder, group, key)] if len(group) > 1 else group
            group, held = [], 0
        if name is not None and (size >= LARGE or not is_own(name)):
            kept.append(name)
        elif name is not None:
            group, held = [*group, name], held + size
    return kept


def _join(folder: str, names: Sequence[str], key: str) -> str:
    filesystem, root = open_filesystem(folder)
    files = LabelFiles(filesystem, tuple(f"{root}/{name}" for name in names))
    joined = joined_name(names, key)
    schema = SCHEMA.with_metadata({**SCHEMA.metadata, JOINED: " ".join(names).encode()})
    with (
        write_path(f"{folder}/{joined}") as part,
        part.open("wb") as file,  # Arrow opens no name that is not UTF-8
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for path in files.paths:
            rows = pa.concat_tables(read_batches(files, path))
            writer.write_table(rows.replace_schema_metadata(schema.metadata))
    for path in files.paths:
        filesystem.rm_file(path)
    return joined
