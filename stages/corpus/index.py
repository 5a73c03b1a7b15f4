"""Parts of the listing, kept in OUT/listing: files of a corpus some ten thousand at a time, and each archive alone.

An archive's part carries a stamp of its content: as long as that stays, later runs need not read the archive again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.conform import conform
from schemas.listing import SCHEMA
from stages.corpus.names import shown
from stages.storage.location import open_filesystem, redact
from stages.storage.tables import list_names, read_each, write_table

LISTING = "listing"
"""Folder in OUT."""

OF_FILES = "files"
"""Beginning of the names of parts that hold files, and no archive's members."""

_LONGEST = 80
_OWN = re.compile(rf"({OF_FILES}-\d{{5,}}|[A-Za-z0-9._-]{{1,{_LONGEST}}}-[0-9a-f]{{12}})\.parquet")


def key_of(relative: bytes) -> str:
    """Return the name of an archive's part: the end of its path below the root, and a digest of all of it."""
    text = re.sub(r"[^A-Za-z0-9._-]", "_", shown(relative))[-_LONGEST:]
    return f"{text}-{hashlib.sha256(relative).hexdigest()[:12]}"


@dataclass(frozen=True)
class Part:
    """Rows of schemas/listing.py, and the members beside them that are not looked at, by suffix."""

    rows: pa.Table
    others: Counter[str]


def write_part(out: str, name: str, rows: pa.Table, stamp: str | None = None, others: Mapping[str, int] = {}) -> None:
    """Write a part of the listing.

    Args:
        out: folder of the run.
        name: `key_of` an archive, or `files-00000`.
        rows: of schemas/listing.py.
        stamp: of the archive's content; None where it cannot be known again, or the list is not whole.
        others: members that are not looked at, by suffix.
    """
    facts = {b"stamp": (stamp or "").encode(), b"others": json.dumps(dict(others)).encode()}
    write_table(
        rows.replace_schema_metadata({**(rows.schema.metadata or {}), **facts}), f"{out}/{LISTING}/{name}.parquet"
    )


def read_part(out: str, name: str, stamp: str | None) -> Part | None:
    """Return an archive's part, if there is one and the archive is still what it was."""
    if stamp is None:
        return None
    try:
        (part,) = read_each(f"{out}/{LISTING}", [f"{name}.parquet"], lambda file: _part(file, stamp))
    except (OSError, pa.ArrowException, ValueError):  # a part is made again from its archive
        return None
    return part


def _part(file: pq.ParquetFile, stamp: str) -> Part | None:
    facts = file.schema_arrow.metadata or {}
    if facts.get(b"stamp") != stamp.encode():
        return None
    rows = conform(file.read(), SCHEMA)
    return Part(rows, Counter(json.loads(facts.get(b"others", b"{}"))))


def count_part(out: str, name: str, stamp: str | None) -> int | None:
    """Return the number of rows of an archive's part, as `read_part`, without reading them."""

    def rows(file: pq.ParquetFile) -> int | None:
        same = stamp is not None and (file.schema_arrow.metadata or {}).get(b"stamp") == stamp.encode()
        return file.metadata.num_rows if same else None

    try:
        (found,) = read_each(f"{out}/{LISTING}", [f"{name}.parquet"], rows)
    except (OSError, pa.ArrowException):
        return None
    return found


def read_listing(out: str, key: str = "") -> Iterator[pa.Table]:
    """Yield the listing of a run, part by part, of tables of schemas/listing.py; of an older run, its one file.

    Args:
        out: folder of the run.
        key: of an archive (`key_of`), for its part alone.

    Raises:
        ValueError: there is none, or a part of it is no listing.
        OSError: it cannot be read.
    """
    names = [f"{key}.parquet"] if key else [name for name in list_names(f"{out}/{LISTING}") if _OWN.fullmatch(name)]
    folder = f"{out}/{LISTING}" if names else out
    if not names and "images.parquet" in list_names(out):
        names = ["images.parquet"]
    if not names:
        raise ValueError(f"{redact(out)}: no {LISTING} there")
    try:
        for name in names:
            yield from read_each(folder, [name], lambda file: conform(file.read(), SCHEMA))
    except pa.ArrowException as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error


def remove_parts_of_files(out: str, number: int) -> None:
    """Remove the parts of files from a number on: those of an earlier run, whose corpus had more."""
    filesystem, root = open_filesystem(f"{out}/{LISTING}")
    for name in list_names(f"{out}/{LISTING}"):
        if name.startswith(f"{OF_FILES}-") and _OWN.fullmatch(name) and int(name[len(OF_FILES) + 1 : -8]) >= number:
            filesystem.rm_file(f"{root}/{name}")
