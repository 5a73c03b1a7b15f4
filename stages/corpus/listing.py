"""List every image that a labelling run must account for: `list_images`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from schemas.conform import conform
from schemas.listing import SCHEMA
from stages.corpus.find import Selection, find
from stages.corpus.names import Role, image_id, is_hidden, role, shown, suffix
from stages.corpus.parquet_images import IMAGE_COLUMNS, ListsOfImages, count_images
from stages.corpus.tar_members import read_members
from stages.corpus.walk import Found
from stages.storage.location import Location, locate, redact


class _Unusable(ValueError):
    """A single archive that was named outright and is of no use; the message is one line."""


class _Row(NamedTuple):
    relative: bytes
    kind: str
    member: bytes | None = None
    occurrence: int = 0
    offset: int | None = None
    length: int | None = None
    size: int | None = None

    @property
    def order(self) -> tuple[bytes, int]:
        return self.relative, -1 if self.offset is None else self.offset


def list_images(images: str, exclude: str | None = None, others: Counter[str] | None = None) -> pa.Table:
    """List `images`: one row for each image, in an order that depends on names alone.

    A folder is searched with all folders in it; files count by suffix (`PHOTO_SUFFIXES`, `.tar`, `.parquet`; case does
    not matter) and others are only counted. A tar, with others joined to it, gives one row for each member with a
    photo's suffix, a Parquet file one row for each of its rows if it has a column of images (`IMAGE_COLUMNS`).

    What cannot be an image is a row too, for which `stages.corpus.fetch.fetch` raises the reason:

    - kind `hidden`: a part of the path below the root, or of a member's name, starts with `.` or `_`;
    - kind `special`: a directory (its content is listed as well), pipe, socket, device or dangling link with a photo's
      name; a folder that cannot be listed; a tar member that is no regular file or whose name leads elsewhere
      (`offset` is set); an archive in a tar (the same); an archive that is damaged or cut short, a compressed tar, a
      zip, a Parquet file of lists of images (`offset` is set, `length` null).

    Args:
        images: a folder, a file, or a glob (`*`, `?`, `[…]`, `**`); a path or any fsspec URI. A single file that is
            named outright counts whatever its name.
        exclude: a folder on this machine that is left out with all its content: the run's output.
        others: to which every file is added that has no row, by its suffix (`stages.corpus.others`).

    Returns:
        A table of `schemas.listing.SCHEMA`, free of credentials.

    Raises:
        ValueError: `images` does not exist, matches nothing, cannot be listed, or is a single archive that cannot be
            used: a compressed tar, a Parquet file without a column of images, one on a server that sends no parts.
    """
    location = locate(images)
    selection = find(location, images, exclude)
    others = Counter() if others is None else others
    others.update(selection.others)
    rows = [row for found in selection.found for row in _rows(location, selection, found, others)]
    rows.sort(key=lambda row: row.order)
    return _table(location, selection.root, rows)


def _rows(location: Location, selection: Selection, found: Found, others: Counter[str]) -> Iterator[_Row]:
    here = _Row(found.relative, "file", size=found.size)
    if is_hidden(found.relative) and not selection.explicit:
        yield here._replace(kind="hidden")
        return
    if not found.regular:
        yield here._replace(kind="special")
        return
    path = selection.root + b"/" + found.relative
    try:
        match role(found.relative):
            case Role.TAR:
                yield from _tar_rows(location, path, here, others)
            case Role.PARQUET:
                yield from _parquet_rows(location, path, here, selection.explicit, others)
            case Role.COMPRESSED_TAR if selection.explicit:
                raise _Unusable(f"{shown(path)}: a compressed tar cannot be read at random; decompress it first")
            case Role.ZIP if selection.explicit:
                raise _Unusable(f"{shown(path)}: a zip, 7z or rar archive is not read; unpack it first")
            case Role.COMPRESSED_TAR | Role.ZIP:
                yield here._replace(kind="special", offset=0)
            case _:
                yield here
    except OSError as error:
        # With an errno the system refused, and refuses fetch with the reason; without, the file itself is damaged.
        yield here._replace(kind="special", offset=None if error.errno else 0)
    except _Unusable:
        raise
    except Exception as error:  # a store's own exceptions have no common base
        if selection.explicit:
            reason = f"the archive cannot be read in parts ({type(error).__name__}); copy it to a disk first"
            raise _Unusable(f"{shown(path)}: {reason}") from None
        yield here._replace(kind="special")


def _tar_rows(location: Location, path: bytes, here: _Row, others: Counter[str]) -> Iterator[_Row]:
    with location.open(path) as archive:
        members, damaged_at = read_members(archive)
    seen = Counter[bytes]()
    if damaged_at is None and all(member.folder for member in members):
        others[".tar of no files"] += 1
    for member in members:
        of = role(member.name)
        if of is not Role.PHOTO and member.folder:
            continue
        if of is Role.OTHER:
            others[suffix(member.name)] += 1
            continue
        kind = "tar" if of is Role.PHOTO else "special"
        kind = "special" if not member.regular else "hidden" if is_hidden(member.name) else kind
        yield _Row(
            here.relative, kind, member.name, seen[member.name], member.offset, member.length, size=member.length
        )
        seen[member.name] += 1
    if damaged_at is not None:
        yield here._replace(kind="special", offset=damaged_at)


def _parquet_rows(location: Location, path: bytes, here: _Row, explicit: bool, others: Counter[str]) -> Iterator[_Row]:
    try:
        with location.open(path) as file:
            count = count_images(file)
    except (pa.ArrowException, ListsOfImages) as error:
        if explicit and isinstance(error, ListsOfImages):
            raise _Unusable(f"{shown(path)}: {error}") from None
        yield here._replace(kind="special", offset=0)
        return
    if count is None and explicit:
        raise _Unusable(f"{shown(path)}: no binary column named {', '.join(IMAGE_COLUMNS)}")
    if not count:
        others[".parquet of no images"] += 1
    for row in range(count or 0):
        yield _Row(here.relative, "parquet", str(row).encode(), offset=row)


def _table(location: Location, root: bytes, rows: list[_Row]) -> pa.Table:
    base = shown(root)
    if location.filesystem is not None:
        base = redact(location.filesystem.unstrip_protocol(base))
    names = [shown(row.relative) + ("" if row.member is None else "#" + shown(row.member)) for row in rows]
    columns = {
        "image_id": [_id(row) for row in rows],
        "uri": [f"{base}/{name}" for name in names],
        "file_name": names,
        "path": [root + b"/" + row.relative for row in rows],
        "kind": [row.kind for row in rows],
        "offset": [row.offset for row in rows],
        "length": [row.length for row in rows],
        "bytes": [row.size for row in rows],
    }
    return conform(
        pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], names=SCHEMA.names), SCHEMA
    )


def _id(row: _Row) -> str:
    # A tar may hold the same name several times; each is an image of its own.
    repeat = b"\0" + str(row.occurrence).encode() if row.occurrence else b""
    return image_id(row.relative, None if row.member is None else row.member + repeat)
