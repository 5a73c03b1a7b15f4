"""List every image that a labelling run must account for: a `Corpus` part by part, or all in one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, cast

import pyarrow as pa

from schemas.conform import conform
from schemas.listing import SCHEMA
from stages.corpus.find import find
from stages.corpus.names import ARCHIVES, Role, image_id, is_hidden, role, shown, suffix
from stages.corpus.parquet_images import IMAGE_COLUMNS, ListsOfImages, count_images
from stages.corpus.tar_members import TarEnd, read_members
from stages.corpus.walk import Found
from stages.storage.location import Location, locate, redact
from stages.storage.sequential import open_sequential

FILES_A_PART = 4096
"""Files that are listed together."""


class _Unusable(ValueError):
    """A single archive that was named outright and is of no use; the message is one line."""


class Row(NamedTuple):
    """Row of the listing before it is in a table; the columns of schemas/listing.py."""

    relative: bytes
    kind: str
    member: bytes | None = None
    occurrence: int = 0
    offset: int | None = None
    length: int | None = None
    size: int | None = None

    @property
    def order(self) -> tuple[bytes, int]:
        """Return what rows are sorted by: names, and places in an archive."""
        return self.relative, -1 if self.offset is None else self.offset


@dataclass(frozen=True)
class Corpus:
    """Photos that an images argument names, wherever they lie.

    Attributes:
        location: of the argument.
        root: the folder that ids and file names are relative to, raw bytes, without credentials.
        explicit: True for a single file that was named outright.
    """

    location: Location
    root: bytes
    explicit: bool

    def rows_of_file(self, found: Found) -> Iterator[Row]:
        """Yield the row of a file that is no readable archive."""
        here = Row(found.relative, "file", size=found.size)
        of = role(found.relative)
        if is_hidden(found.relative) and not self.explicit:
            yield here._replace(kind="hidden")
        elif not found.regular:
            yield here._replace(kind="special")
        elif of in (Role.COMPRESSED_TAR, Role.ZIP):
            if self.explicit:
                kind = "a zip, 7z or rar archive is not read; unpack it first"
                if of is Role.COMPRESSED_TAR:
                    kind = "a compressed tar cannot be read at random; decompress it first"
                raise _Unusable(f"{shown(self.root + b'/' + found.relative)}: {kind}")
            yield here._replace(kind="special", offset=0)
        else:
            yield here

    def rows_of_archive(self, found: Found, others: Counter[str], listed: Listed | None = None) -> Iterator[Row]:
        """Yield the rows of a tar or a Parquet file, as they are read; a remote tar is read once, from its start.

        Args:
            found: of `parts_of`.
            others: to which every member is added that has no row, by its suffix.
            listed: told whether the list is whole.

        Raises:
            ValueError: the archive was named outright and cannot be used.
        """
        for row, _ in self._archive(found, others, listed or Listed(), most_bytes=-1):
            yield row

    def photos_of_archive(
        self, found: Found, others: Counter[str], most_bytes: int
    ) -> Iterator[tuple[Row, bytes | None]]:
        """Yield the rows of an archive as `rows_of_archive` does, with the encoded photos of a tar, read on the way.

        Args:
            found: of `parts_of`.
            others: as there.
            most_bytes: size of the largest photo that is read.

        Yields:
            A row, and what it stands for: None where `stages.corpus.fetch.fetch` has it, or says why there is none.
        """
        return self._archive(found, others, Listed(), most_bytes)

    def _archive(
        self, found: Found, others: Counter[str], listed: Listed, most_bytes: int
    ) -> Iterator[tuple[Row, bytes | None]]:
        here, path = Row(found.relative, "file", size=found.size), self.root + b"/" + found.relative
        try:
            if role(found.relative) is Role.TAR:
                with self._open_tar(path, found.size) as archive:
                    for row in _tar_rows(archive, here, others):
                        yield row, _content(archive, row) if (row.length or 0) <= most_bytes else None
            else:
                for row in _parquet_rows(self.location, path, here, self.explicit, others):
                    yield row, None
            listed.whole = True
        except OSError as error:
            # With an errno the system refused, and refuses fetch with the reason; without, the file itself is damaged.
            yield here._replace(kind="special", offset=None if error.errno else 0), None
        except _Unusable:
            raise
        except Exception as error:  # a store's own exceptions have no common base
            if self.explicit:
                reason = f"the archive cannot be read in parts ({type(error).__name__}); copy it to a disk first"
                raise _Unusable(f"{shown(path)}: {reason}") from None
            yield here._replace(kind="special"), None

    def _open_tar(self, path: bytes, size: int | None) -> BinaryIO:
        filesystem, real = self.location.filesystem, self.location.real(path)
        if filesystem is not None and size is None:  # a page of links tells no size
            size = filesystem.info(real).get("size")
        if filesystem is None or size is None:
            return self.location.open(path)
        return cast(BinaryIO, open_sequential(filesystem, real, size))

    def table(self, rows: Iterable[Row]) -> pa.Table:
        """Make a table of schemas/listing.py of rows."""
        rows, location = list(rows), self.location
        base = shown(self.root)
        if location.filesystem is not None:
            base = redact(location.filesystem.unstrip_protocol(base))
        names = [shown(row.relative) + ("" if row.member is None else "#" + shown(row.member)) for row in rows]
        columns = {
            "image_id": [_id(row) for row in rows],
            "uri": [f"{base}/{name}" for name in names],
            "file_name": names,
            "path": [self.root + b"/" + row.relative for row in rows],
            "kind": [row.kind for row in rows],
            "offset": [row.offset for row in rows],
            "length": [row.length for row in rows],
            "bytes": [row.size for row in rows],
        }
        return conform(
            pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], names=SCHEMA.names), SCHEMA
        )


@dataclass
class Listed:
    """State of an archive's list: whole, or ending where reading failed; a damaged archive's list is whole, too."""

    whole: bool = False


def open_corpus(images: str, exclude: str | None = None) -> tuple[Corpus, Iterator[Found]]:
    """Return the corpus that `images` names, and its files as they are found.

    Args:
        images: a folder, a file, or a glob (`*`, `?`, `[…]`, `**`); a path or any fsspec URI. A single file that is
            named outright counts whatever its name.
        exclude: a folder on this machine that is left out with all its content: the run's output.

    Raises:
        ValueError: `images` does not exist, matches nothing or cannot be listed.
    """
    location = locate(images)
    selection = find(location, images, exclude)
    return Corpus(location, selection.root, selection.explicit), selection.found


def parts_of(corpus: Corpus, found: Iterable[Found], others: Counter[str]) -> Iterator[list[Row] | Found]:
    """Yield the parts of a corpus as its files are found: rows of files, `FILES_A_PART` at most, or an archive.

    Args:
        corpus: of `open_corpus`.
        found: its files.
        others: to which every file is added that is neither, by its suffix (`stages.corpus.others`).
    """
    rows: list[Row] = []
    for one in found:
        if one.other and not corpus.explicit:
            others[suffix(one.relative)] += 1
            continue
        hidden = is_hidden(one.relative) and not corpus.explicit
        if one.regular and not hidden and role(one.relative) in ARCHIVES:
            yield one
            continue
        rows.extend(corpus.rows_of_file(one))
        if len(rows) >= FILES_A_PART:
            yield rows
            rows = []
    if rows:
        yield rows


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
    corpus, found = open_corpus(images, exclude)
    others = Counter() if others is None else others
    rows: list[Row] = []
    for part in parts_of(corpus, found, others):
        rows.extend(part if isinstance(part, list) else corpus.rows_of_archive(part, others))
    return corpus.table(sorted(rows, key=lambda row: row.order))


def _content(archive: BinaryIO, row: Row) -> bytes | None:
    """Return the bytes of a photo in a tar; None for other rows."""
    if row.kind != "tar" or row.offset is None:
        return None
    archive.seek(row.offset)
    return archive.read(row.length or 0)


def _tar_rows(archive: BinaryIO, here: Row, others: Counter[str]) -> Iterator[Row]:
    seen, end, files = Counter[bytes](), TarEnd(), False
    for member in read_members(archive, end):
        files |= not member.folder
        of = role(member.name)
        if of is not Role.PHOTO and member.folder:
            continue
        if of is Role.OTHER:
            others[suffix(member.name)] += 1
            continue
        kind = "tar" if of is Role.PHOTO else "special"
        kind = "special" if not member.regular else "hidden" if is_hidden(member.name) else kind
        yield Row(here.relative, kind, member.name, seen[member.name], member.offset, member.length, size=member.length)
        seen[member.name] += 1
    if end.damaged_at is not None:
        yield here._replace(kind="special", offset=end.damaged_at)
    elif not files:
        others[".tar of no files"] += 1


def _parquet_rows(location: Location, path: bytes, here: Row, explicit: bool, others: Counter[str]) -> Iterator[Row]:
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
        yield Row(here.relative, "parquet", str(row).encode(), offset=row)


def _id(row: Row) -> str:
    # A tar may hold the same name several times; each is an image of its own.
    repeat = b"\0" + str(row.occurrence).encode() if row.occurrence else b""
    return image_id(row.relative, None if row.member is None else row.member + repeat)
