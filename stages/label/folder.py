"""The folder OUT/labels: which images it already holds, and how a file gets into it.

A file holds photos of one archive, which its name tells, or files of the corpus. It appears under its final name whole
or not at all. That of a unit of work follows from the images in it: a worker that outlives its killed driver and writes
a moment late replaces a file by the same file, and no image gets two rows. Files of an archive that is done are joined
to larger ones, whose names follow from the files in them; until those are gone, the larger file tells that they count
no more.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import labels
from schemas.conform import conform
from schemas.labels import PASSING
from stages.storage import atomic
from stages.storage.location import open_filesystem, redact
from stages.storage.tables import AT_ONCE, list_names, read_column, read_each, write_table

_NAME = r"labels-(?:(?P<key>[A-Za-z0-9._-]+-[0-9a-f]{12})-)?(?P<joined>joined-)?[0-9a-f]{24}\.parquet"
_OWN = re.compile(_NAME)
_OWN_PART = re.compile(rf"\.{_NAME}\.[0-9a-f]{{32}}{re.escape(atomic.PART)}")

JOINED = b"joined"
"""Key of a joined file's schema metadata: the names of the files in it, separated by blanks."""


def unit_name(image_ids: Sequence[str], key: str = "") -> str:
    """Return the file name of a unit of images of an archive (`stages.corpus.index.key_of`), or of files."""
    return f"labels-{f'{key}-' if key else ''}{hashlib.sha256(' '.join(image_ids).encode()).hexdigest()[:24]}.parquet"


def joined_name(names: Sequence[str], key: str) -> str:
    """Return the name of a file that is made of others."""
    digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:24]
    return f"labels-{f'{key}-' if key else ''}joined-{digest}.parquet"


def write_unit(table: pa.Table, folder: str, key: str = "") -> str:
    """Write one unit of label rows into a folder; returns its file name."""
    name = unit_name(table.column("image_id").to_pylist(), key)
    write_table(table, f"{folder}/{name}")
    return name


def superseded(folder: str, names: Iterable[str]) -> set[str]:
    """Return the files, of those named, whose rows a joined file among them holds: a run that joined them was killed.

    Raises:
        pa.ArrowException: a joined file cannot be read.
        OSError: the system refuses to read a file.
    """
    by_key = names_by_key(names)
    joined = [name for mine in by_key.values() if len(mine) > 1 for name in mine if "joined-" in name]
    found = read_each(folder, joined, lambda file: (file.schema_arrow.metadata or {}).get(JOINED, b"").decode().split())
    return {name for listed in found for name in listed} & {name for mine in by_key.values() for name in mine}


def names_by_key(names: Iterable[str]) -> dict[str, list[str]]:
    """Sort a run's own files by the archive whose photos they hold; those of files have the key ""."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if own := _OWN.fullmatch(name):
            by_key[own["key"] or ""].append(name)
    return by_key


def is_own(name: str) -> bool:
    """Tell whether a run gives such a name to a file of labels."""
    return _OWN.fullmatch(name) is not None


def usable_files(folder: str) -> dict[str, list[str]]:
    """Return the label files by the archive whose photos they hold; remove what killed writes and joins left behind.

    Removed are files of a run's own names alone: unfinished ones, those that cannot be read, and those that a joined
    file replaces. Others are never touched; those that hold rows count as labels of files.

    Raises:
        OSError: the system refuses to read a file.
    """
    filesystem, root = open_filesystem(folder)
    names = list_names(folder)
    tables = [name for name in names if name.endswith(".parquet") and name[0] not in "._"]
    sound = dict(zip(tables, _are_labels(folder, tables), strict=True))
    own = [name for name in tables if _OWN.fullmatch(name) and sound[name]]
    gone = superseded(folder, own)
    for name in names:
        if _OWN_PART.fullmatch(name) or name in gone or (_OWN.fullmatch(name) and not sound[name]):
            filesystem.rm_file(f"{root}/{name}")
    by_key = names_by_key(name for name in own if name not in gone)
    by_key[""] = [*by_key.get("", []), *(name for name in tables if not _OWN.fullmatch(name) and sound[name])]
    return by_key


class DoneIds:
    """Ids of images that have a row, 32 bytes each."""

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        """Read the ids of some files of a folder of labels."""
        self._ids = np.sort(np.array(read_column(folder, names, "image_id").to_numpy(), "S32"))

    def __len__(self) -> int:
        return len(self._ids)

    def lacks(self, listing: pa.Table) -> pa.BooleanArray:
        """Tell of each row of the listing whether it has no label row yet."""
        if not len(self._ids):
            return pa.repeat(True, listing.num_rows)
        wanted = np.array(listing.column("image_id").to_numpy(), "S32")
        places = np.searchsorted(self._ids, wanted)
        return pa.array(self._ids[np.minimum(places, len(self._ids) - 1)] != wanted)


def count_rows(folder: str, names: Sequence[str]) -> int:
    """Return the number of rows of some files of a folder of labels, from their footers."""
    return sum(read_each(folder, names, lambda file: file.metadata.num_rows))


class FailedRow(NamedTuple):
    """A row whose failure may have passed: the file in OUT/labels that holds it, and its reason."""

    file: str
    reason: str


def passing_failures(folder: str, names: Sequence[str]) -> dict[str, FailedRow]:
    """Return by image id the rows of some files whose failure may have passed (`PASSING`)."""

    def failed(file: pq.ParquetFile) -> list[dict[str, Any]]:
        rows = file.read(["image_id", "reason"])
        return rows.filter(pc.is_in(rows.column("reason"), pa.array(PASSING, pa.string()))).to_pylist()

    return {
        row["image_id"]: FailedRow(name, row["reason"])
        for name, rows in zip(names, read_each(folder, names, failed), strict=True)
        for row in rows
    }


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
    tables = [name for name in list_names(folder) if name.endswith(".parquet") and name[0] not in "._"]
    strangers = [name for name in tables if not _OWN.fullmatch(name)]
    for name, are_labels in zip(strangers, _are_labels(folder, strangers), strict=True):
        if not are_labels:
            raise ValueError(f"{redact(folder)}/{name}: no table of labels, and not of a run; move it elsewhere")


def _are_labels(folder: str, names: Sequence[str]) -> list[bool]:
    """Tell of each file whether it is a whole table of labels, from its footer.

    A name that no run makes is not enough: other tables have image ids, too.
    """
    filesystem, root = open_filesystem(folder)

    def is_labels(name: str) -> bool:
        try:
            with filesystem.open(f"{root}/{name}", "rb") as opened, pq.ParquetFile(opened) as file:
                if not _OWN.fullmatch(name):
                    conform(file.schema_arrow.empty_table(), labels.SCHEMA)
                return "image_id" in file.schema_arrow.names
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno:  # the system's refusal, which says nothing of the file
                raise
            return False

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(is_labels, names))
