"""List a tar's members and their offsets, from its headers alone; nothing is extracted or written.

Python's `tarfile` parses each header block; the walk from block to block is ours, because `tarfile` ends silently at a
damaged header, follows negative sizes in a circle (CVE-2025-8194) and reads extended headers of any size into memory.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 16
_MAX_EXTENDED_BYTES = 1 << 20
_MOST_BYTES = 1 << 63
"""More than an archive or a column of the listing can hold."""
_MAX_DIGITS = 20
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_FOLDERS = {tarfile.DIRTYPE, b"D", b"V"}
_EXTENDED = {_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL}


class Member(NamedTuple):
    """One member of a tar.

    Attributes:
        name: raw bytes, without a leading `./` and a trailing `/`.
        offset: place of its first byte of data in the archive, in bytes.
        length: length of its data, in bytes.
        regular: a whole regular file whose name stays in the archive's folder; not a link, a folder, a device, a sparse
            file, an absolute path, a path with `..`, or data that is cut short.
        folder: a folder, or a volume's label: no file.
    """

    name: bytes
    offset: int
    length: int
    regular: bool
    folder: bool = False


class _Damaged(Exception):
    pass


@dataclass
class TarEnd:
    """End of a tar, known once its members are read.

    Attributes:
        damaged_at: offset in bytes from which the archive is damaged or cut short; None if it ends as a tar must, with
            a block of zeros.
    """

    damaged_at: int | None = None


def read_members(archive: BinaryIO, end: TarEnd) -> Iterator[Member]:
    """Yield the members of an uncompressed tar (ustar, GNU, pax), and of others joined to its end, in order.

    Args:
        archive: the tar; places are read in order, a few hundred bytes apart from blocks that are looked at twice.
        end: filled in once the last member is read.
    """
    size = archive.seek(0, os.SEEK_END)
    at = 0
    extended: dict[bytes, bytes] = {}
    while True:
        archive.seek(at)
        block = archive.read(_BLOCK)
        if len(block) == _BLOCK and not any(block):
            at = _skip_zeros(archive, at)
            if at >= size:
                return
            extended = {}
            continue
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if info.size < 0:
                raise _Damaged
            if info.type in _EXTENDED:
                extended |= _extended_header(info, archive)
                at += _BLOCK + _padded(info.size)
                continue
            member, at = _member(info, extended, archive, at + _BLOCK)
        except (tarfile.TarError, _Damaged, ValueError):
            end.damaged_at = min(at, size)
            return
        extended = {}
        is_whole = member.offset + member.length <= size
        yield member._replace(regular=member.regular and is_whole)
        if at > size:
            end.damaged_at = size
            return


def _skip_zeros(archive: BinaryIO, at: int) -> int:
    """Return the offset of the first block from `at` that is not all zeros: the tar's end, or another one's start."""
    archive.seek(at)
    while chunk := archive.read(_CHUNK):
        if rest := chunk.lstrip(b"\0"):
            return (at + len(chunk) - len(rest)) // _BLOCK * _BLOCK
        at += len(chunk)
    return at


def _member(info: tarfile.TarInfo, extended: dict[bytes, bytes], archive: BinaryIO, data_at: int) -> tuple[Member, int]:
    name = extended.get(b"path", info.name.encode("utf-8", "surrogateescape"))
    length = int(extended[b"size"]) if b"size" in extended else info.size
    if not 0 <= length < _MOST_BYTES:
        raise _Damaged
    sparse = info.type == tarfile.GNUTYPE_SPARSE
    if sparse:
        data_at = _skip_sparse_map(info, archive, data_at)
    # Links, folders and devices may state a size, but no data follows them.
    has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
    regular = info.isreg() and not sparse and not any(key.startswith(b"GNU.sparse.") for key in extended)
    member = Member(_plain(name), data_at, length, regular and _stays_inside(name), info.type in _FOLDERS)
    return member, data_at + (_padded(length) if has_data else 0)


def _extended_header(info: tarfile.TarInfo, archive: BinaryIO) -> dict[bytes, bytes]:
    """Read an extended header: records about the next member, by their pax names."""
    if info.size > _MAX_EXTENDED_BYTES:
        raise _Damaged
    data = archive.read(info.size)
    if len(data) < info.size:
        raise _Damaged
    if info.type == _LONG_NAME:
        return {b"path": data.rstrip(b"\0")}
    return _pax_records(data) if info.type == _PAX else {}


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Parse the records of a pax header, `LENGTH KEY=VALUE\\n` each; the length counts itself (POSIX.1-2001, pax)."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        digits = data[at : at + _MAX_DIGITS].partition(b" ")[0]
        end = at + int(digits)
        key, separator, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
        if not separator or data[end - 1 : end] != b"\n":
            raise _Damaged
        records[key] = value
        at = end
    return records


def _skip_sparse_map(info: tarfile.TarInfo, archive: BinaryIO, data_at: int) -> int:
    archive.seek(data_at - _BLOCK)
    header = archive.read(_BLOCK)
    goes_on = header[482]
    while goes_on:
        block = archive.read(_BLOCK)
        if len(block) < _BLOCK:
            raise _Damaged
        goes_on = block[504]
        data_at += _BLOCK
    return data_at


def _padded(length: int) -> int:
    return -(-length // _BLOCK) * _BLOCK


def _plain(name: bytes) -> bytes:
    while name.startswith(b"./"):
        name = name[2:]
    return name.rstrip(b"/")


def _stays_inside(name: bytes) -> bool:
    return not name.startswith(b"/") and b".." not in name.split(b"/")
