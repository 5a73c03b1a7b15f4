"""Read a tar as a stream, compressed or not, and lose no more of a damaged one than what is damaged.

Python's `tarfile` parses each header block; the walk from block to block is ours, because `tarfile` ends silently at a
damaged header in the middle, takes as much into memory as a header claims, and of a gzip in several parts reads one.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

MAX_MEMBER_BYTES = 64 << 20
"""Largest size of a member that is read, as its header states it."""

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
_MAX_EXTENDED_BYTES = 1 << 20
_MAX_DIGITS = 20
"""Digits of a number in an extended header; more are damage."""
_EXTENDED = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE}
_UNPACK: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


class _Damaged(Exception):
    """A block that is no valid header."""


class _CutShort(Exception):
    """The stream ends inside a header or a member."""


def read_files(
    file: BinaryIO, wanted: Callable[[str], bool], on_problem: Callable[[str], None]
) -> Iterator[tuple[str, bytes]]:
    """Read the regular files of a tar (ustar, GNU, pax; plain, gzip, bzip2, xz), one in memory at a time.

    After a damaged header reading goes on at the next whole one, so that only its member is lost. Tars behind one
    another in one file are read as one.

    Args:
        file: needs `read` alone.
        wanted: whether a member of this name is read; others are passed over.
        on_problem: called with one line for every damage, and for each link or device that is wanted; whatever can be
            read is yielded.

    Yields:
        Name and content.
    """
    stream = _Stream(file)
    try:
        yield from _walk(stream, wanted, on_problem)
    except _CutShort as error:
        on_problem(f"cut short at byte {stream.at} of the tar, inside {error}")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        on_problem(f"cannot be read on from byte {stream.at} of the tar: {type(error).__name__}: {error}")


def _walk(
    stream: _Stream, wanted: Callable[[str], bool], on_problem: Callable[[str], None]
) -> Iterator[tuple[str, bytes]]:
    name, size = None, None  # of the next member, from an extended header
    lost = ended = False
    while block := stream.read(_BLOCK):
        at = stream.at - len(block)
        if not block.strip(b"\0"):
            ended = True
            continue
        ended = False
        if len(block) < _BLOCK:
            raise _CutShort("a header")
        try:
            if lost and block[257:262] != b"ustar":  # a file's content may look like the header of an older tar
                raise _Damaged("not a header")
            info = _header(block)
        except _Damaged as error:
            if not lost:
                on_problem(f"byte {at} of the tar: {error}; looking for the next whole header")
            name, size, lost = None, None, True
            continue
        lost = False
        if info.type in _EXTENDED:
            said = _extended(info, stream)
            name, size = said.get("path", name), said.get("size", size)
            continue
        info.name, info.size = name or info.name, info.size if size is None else int(size)
        name, size = None, None
        if not info.isreg() or not wanted(info.name):
            if not info.isreg() and not info.isdir() and wanted(info.name):
                on_problem(f"{info.name}: is a link or a device, no file; not read")
            # Links, folders and devices may state a size, but no data follows them.
            if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES:
                stream.skip(_padded(info.size), info.name)
        elif info.size > MAX_MEMBER_BYTES:
            on_problem(f"{info.name}: claims {info.size} bytes, over the limit of {MAX_MEMBER_BYTES}; not read")
            lost = True  # what follows may be as much as it claims, or the next member
        else:
            content = stream.whole(_padded(info.size), info.name)
            yield info.name, content[: info.size]
    if not ended:
        on_problem(f"cut short at byte {stream.at} of the tar: no end mark")


class _Stream:
    """Bytes of a tar, decompressed and counted."""

    def __init__(self, file: BinaryIO) -> None:
        self.at = 0
        self._file: Any = file
        head = file.read(8)
        self._file = _Replayed(head, file)
        for magic, unpack in _UNPACK.items():
            if head.startswith(magic):
                self._file = unpack(self._file)

    def read(self, size: int) -> bytes:
        """Read that many bytes, fewer only at the end: a network file may give fewer at a time."""
        parts = []
        while size > 0 and (part := self._file.read(min(size, _CHUNK))):
            parts.append(part)
            size -= len(part)
            self.at += len(part)
        return b"".join(parts)

    def whole(self, size: int, name: str) -> bytes:
        content = self.read(size)
        if len(content) < size:
            raise _CutShort(name)
        return content

    def skip(self, size: int, name: str) -> None:
        for start in range(0, size, _CHUNK):
            self.whole(min(_CHUNK, size - start), name)


class _Replayed:
    """A file whose first bytes, already read, come first again."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head, self._file = head, file

    def read(self, size: int) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head or self._file.read(size)


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.TarError as error:
        raise _Damaged(str(error)) from None
    if info.size < 0 or (info.type in _EXTENDED and info.size > _MAX_EXTENDED_BYTES):
        raise _Damaged(f"a header that claims {info.size} bytes")
    return info


def _extended(info: tarfile.TarInfo, stream: _Stream) -> dict[str, str]:
    """Read what an extended header states about the next member, by pax names."""
    data = stream.whole(_padded(info.size), "an extended header")[: info.size]
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "backslashreplace")}
    return _pax_records(data) if info.type == tarfile.XHDTYPE else {}


def _pax_records(data: bytes) -> dict[str, str]:
    """Read `path` and `size` of a pax header: records `LENGTH KEY=VALUE\\n`, LENGTH counting itself (POSIX.1-2001)."""
    records = {}
    at = 0
    while at < len(data):
        digits = data[at : at + _MAX_DIGITS + 1].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        key, _, value = data[at + len(digits) + 1 : at + length - 1].partition(b"=")
        if length <= len(digits):
            break  # damaged: the member keeps what its own header says
        if key == b"path" or (key == b"size" and value.isdigit() and len(value) <= _MAX_DIGITS):
            records[key.decode()] = value.decode("utf-8", "backslashreplace")
        at += length
    return records


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
