"""Parts of a run: Parquet files in one folder, each of some items of one source, that a run after a kill finds done.

Which items make a part is fixed by their order in the source, and its name follows from them: whoever makes it again,
late or twice, replaces a file by the same file, and no item gets two rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stages.storage.atomic import PART, write_path
from stages.storage.location import open_filesystem, redact

NOTES = b"notes"
"""Key of the footer's metadata whose value is what a part says beside its rows, as JSON."""

_NAME = r"part-([0-9a-f]{16})-(\d{6,})-(\d+)-([0-9a-f]{16})(-last)?\.parquet"
_WHOLE, _LEFT = re.compile(_NAME), re.compile(rf"\.{_NAME}\.[0-9a-f]{{32}}{re.escape(PART)}")


class Part(NamedTuple):
    """A part, as its name tells it.

    Attributes:
        source: digest of the name of its source.
        number: how many parts of its source come before it.
        items: number of them.
        digest: of their ids.
        is_last: True if it is known to be the last one of a source that was read without a problem.
    """

    source: str
    number: int
    items: int
    digest: str
    is_last: bool

    @classmethod
    def of(cls, source: str, number: int, ids: Sequence[str], is_last: bool) -> Part:
        """Return the part of some items of a source."""
        return cls(digest_of(source), number, len(ids), digest_of("\0".join(ids)), is_last)

    @classmethod
    def parse(cls, name: str) -> Part | None:
        """Return the part of a file name; None for other names."""
        found = _WHOLE.fullmatch(name)
        return found and cls(found[1], int(found[2]), int(found[3]), found[4], found[5] is not None)

    @property
    def name(self) -> str:
        """Name of its file."""
        last = "-last" if self.is_last else ""
        return f"part-{self.source}-{self.number:06d}-{self.items}-{self.digest}{last}.parquet"


def digest_of(text: str) -> str:
    """Return 16 hex digits that stand for a text."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def list_parts(folder: str) -> list[Part]:
    """List the parts that a folder holds, in order; remove what killed writes left of others.

    Files of other names are never touched.
    """
    filesystem, root = open_filesystem(folder)
    filesystem.invalidate_cache(root)  # others write there
    names = [path.rpartition("/")[2] for path in filesystem.ls(root, detail=False)] if filesystem.isdir(root) else []
    for name in names:
        if _LEFT.fullmatch(name):
            filesystem.rm_file(f"{root}/{name}")
    return sorted(part for name in names if (part := Part.parse(name)) is not None)


def by_source(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """Return parts by their source, in order."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.source, []).append(part)
    return found


def is_complete(parts: Sequence[Part]) -> bool:
    """Tell whether the parts of a source, in order, are all that there are."""
    return bool(parts) and parts[-1].is_last and [part.number for part in parts] == list(range(len(parts)))


def write_part(folder: str, name: str, rows: pa.Table, notes: Any, **how: Any) -> None:
    """Write the file of a part.

    Args:
        folder: where it appears.
        name: of a `Part`.
        rows: its rows, none too.
        notes: value of JSON beside them.
        how: options of `pyarrow.parquet.write_table`.

    Raises:
        CannotWrite: the system or the store refuses.
    """
    metadata = {**(rows.schema.metadata or {}), NOTES: json.dumps(notes).encode()}
    with write_path(f"{folder.rstrip('/')}/{name}") as path:
        pq.write_table(rows.replace_schema_metadata(metadata), path, **how)


def read_parts(folder: str, parts: Sequence[Part], columns: Sequence[str] | None = None) -> list[tuple[pa.Table, Any]]:
    """Read the rows and notes of parts, in their order.

    Args:
        folder: where they are.
        parts: of `list_parts`.
        columns: names of those to read; by default all.

    Raises:
        ValueError: a file is no Parquet, or none of a run; the message names it.
    """
    filesystem, root = open_filesystem(folder)

    def read(part: Part) -> tuple[pa.Table, Any]:
        try:
            with filesystem.open(f"{root}/{part.name}", "rb") as opened, pq.ParquetFile(opened) as file:
                metadata: Mapping[bytes, bytes] = file.schema_arrow.metadata or {}
                rows = file.read(columns=None if columns is None else list(columns), use_threads=False)
                return rows, json.loads(metadata[NOTES])
        except (pa.ArrowException, ValueError, KeyError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            place = f"{redact(folder).rstrip('/')}/{part.name}"
            raise ValueError(f"{place}: not a part of a run; remove it, and the same command makes it again") from error

    with ThreadPoolExecutor(16) as threads:  # a store answers many at once
        return list(threads.map(read, parts))
