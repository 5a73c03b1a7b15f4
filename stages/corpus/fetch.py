"""Read the encoded bytes of one row of the listing, or raise the reason why there are none."""

from __future__ import annotations

import errno
import os
import stat
import threading
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, NoReturn

import pyarrow as pa
from fsspec.spec import AbstractFileSystem

from schemas.labels import Reason
from stages.corpus.names import Role, role
from stages.corpus.parquet_images import ListsOfImages, count_images, read_row_group, row_group_starts
from stages.storage.location import Location, locate

MAX_BYTES = 1 << 30
"""Size of the largest encoded image that is read, in bytes; a larger one is a read error."""

BYTES_A_READ = 8 << 20
"""Bytes of a remote archive that are read by one request, where members lie near each other."""

_GAP = 1 << 20
"""Bytes between two members that are read and thrown away rather than asked around."""

_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_NOT_PERMITTED = {errno.EACCES, errno.EPERM}


class FetchError(Exception):
    """An image whose bytes cannot be had.

    Attributes:
        reason: its reason in the labels table.
        message: one line, without paths and credentials.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def fetch_each(rows: Sequence[Mapping[str, Any]], images: str) -> list[Callable[[], bytes]]:
    """Return for each row of the listing what reads its encoded image, as `fetch` does, once.

    Members of a remote tar that lie near each other are read by one request, by whoever asks first.
    """
    if locate(images).filesystem is None:
        return [partial(fetch, row, images) for row in rows]
    return [partial(span.fetch, row) for span in _spans(rows, images) for row in span.rows]


def _spans(rows: Sequence[Mapping[str, Any]], images: str) -> list[_Span]:
    """Cut rows into spans of one archive, in order; what is no tar's member is a span of its own."""
    spans: list[_Span] = []
    for row in rows:
        if spans and spans[-1].reaches(row):
            spans[-1].rows.append(row)
        else:
            spans.append(_Span(images, [row]))
    return spans


class _Span:
    """Members of a remote tar that lie near each other."""

    def __init__(self, images: str, rows: list[Mapping[str, Any]]) -> None:
        self.rows = rows
        self._images = images
        self._lock = threading.Lock()
        self._data: bytes | None = None
        self._left: int | None = None

    def reaches(self, row: Mapping[str, Any]) -> bool:
        first, last = self.rows[0], self.rows[-1]
        if not row["kind"] == last["kind"] == "tar" or row["path"] != last["path"]:
            return False
        near = 0 <= row["offset"] - last["offset"] - last["length"] <= _GAP
        return near and row["offset"] + row["length"] - first["offset"] <= BYTES_A_READ

    def fetch(self, row: Mapping[str, Any]) -> bytes:
        if len(self.rows) == 1:
            return fetch(row, self._images)
        with self._lock:
            if self._left is None:
                self._left = len(self.rows)
                with suppress(FetchError):  # each member says for itself why it cannot be read
                    last = self.rows[-1]
                    length = last["offset"] + last["length"] - self.rows[0]["offset"]
                    self._data = fetch({**self.rows[0], "length": length}, self._images)
            data, self._left = self._data, self._left - 1
            if not self._left:
                self._data = None
        if data is None:
            return fetch(row, self._images)
        start = row["offset"] - self.rows[0]["offset"]
        if not row["length"]:
            raise FetchError(Reason.EMPTY_FILE, "no bytes")
        return data[start : start + row["length"]]


def fetch(row: Mapping[str, Any], images: str) -> bytes:
    """Read the encoded image that a row of the listing names: at least one byte, at most `MAX_BYTES`.

    Args:
        row: a row of `stages.corpus.listing.list_images`; `path`, `file_name`, `kind`, `offset`, `length` and
            `bytes` are used.
        images: the argument that was listed; it may hold credentials, which the listing never does.

    Raises:
        FetchError: there are no such bytes: the row is hidden or special, or the file is missing, locked, empty, too
            large, changed since it was listed, or cannot be read.
    """
    path, kind, offset, length = row["path"], row["kind"], row["offset"], row["length"]
    location = locate(images)
    if kind == "hidden":
        raise FetchError(Reason.HIDDEN_NAME, "a part of the name starts with '.' or '_'")
    if kind == "special" and offset is not None:
        raise FetchError(Reason.BAD_MEMBER, _bad_member(location, row))
    try:
        if kind == "special":
            _say_why(location, path)
        elif kind == "parquet":
            data = _parquet_row(images, path, offset)
        elif location.filesystem is not None:
            data = _read_remote(location.filesystem, location.real(path), offset, length, row["bytes"])
        else:
            data = _read_local(path, offset, length)
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(_reason(error), _say(error)) from error
    except Exception as error:  # a store's own exceptions have no common base
        raise FetchError(Reason.READ_ERROR, type(error).__name__) from error
    if not data:
        raise FetchError(Reason.EMPTY_FILE, "no bytes")
    if length is not None and len(data) > length:
        raise FetchError(Reason.READ_ERROR, "the server sends whole files for a part of one; copy the archive first")
    if length is not None and len(data) != length:
        raise FetchError(Reason.BAD_MEMBER, f"the archive ends {length - len(data)} bytes before the member does")
    return data


def _bad_member(location: Location, row: Mapping[str, Any]) -> str:
    kind, within = role(os.fsencode(row["file_name"])), row["length"] is not None
    if within and kind is not Role.PHOTO:
        return "an archive in a tar is not read; unpack the outer one first"
    if within:
        return "no regular file in the archive: a link, folder, device or unsafe path, or cut short"
    if kind is Role.ZIP:
        return "a zip, 7z or rar archive is not read; unpack it first"
    if kind is Role.COMPRESSED_TAR:
        return "a compressed tar cannot be read at random; decompress it first"
    if kind is Role.PARQUET:
        with suppress(Exception), location.open(row["path"]) as file:
            try:
                count_images(file)
            except ListsOfImages as error:
                return str(error)
    return f"the archive is damaged or cut short at byte {row['offset']}; what came before is listed"


def _say_why(location: Location, path: bytes) -> NoReturn:
    """Raise the system's error for something that could not be listed as a file."""
    if location.filesystem is None:
        _read_local(path, 0, 0)
    if role(path) in (Role.TAR, Role.PARQUET):
        raise FetchError(Reason.READ_ERROR, "could not be read in parts when it was listed; copy the archive first")
    raise FetchError(Reason.READ_ERROR, "could not be read when it was listed")


def _read_local(path: bytes, offset: int | None, length: int | None) -> bytes:
    # Look before opening: a pipe would block, and opening a device may do things.
    _check_regular(path, os.stat(path).st_mode)  # noqa: PTH116 - pathlib knows no bytes
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:  # noqa: PTH123 - it is open already
        state = os.fstat(handle)
        _check_regular(path, state.st_mode)
        _check_size(state.st_size if length is None else length)
        file.seek(offset or 0)
        return file.read(-1 if length is None else length)


def _check_regular(path: bytes, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        os.scandir(path).close()  # a locked folder says so here
        raise FetchError(Reason.NOT_A_FILE, "a folder")
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    raise FetchError(Reason.NOT_A_FILE, next((name for is_kind, name in kinds.items() if is_kind(mode)), "no file"))


def _read_remote(
    filesystem: AbstractFileSystem, path: str, offset: int | None, length: int | None, listed_size: int | None
) -> bytes:
    if offset is not None and length is not None:
        _check_size(length)
        return filesystem.cat_file(path, start=offset, end=offset + length) if length else b""
    size = filesystem.size(path) if listed_size is None else listed_size
    if size is not None:
        _check_size(size)
    return filesystem.cat_file(path)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise FetchError(Reason.READ_ERROR, f"{size} bytes, over the limit of {MAX_BYTES}")


def _parquet_row(images: str, path: bytes, row: int) -> bytes:
    starts = _starts(images, path)
    if row >= starts[-1]:
        raise FetchError(Reason.NOT_FOUND, f"row {row} is gone; the file has {starts[-1]}")
    group = bisect_right(starts, row) - 1
    with _one_reads:
        value = _row_group(images, path, group)[row - starts[group]]
    if not value.is_valid:
        return b""
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    _check_size(len(value.as_buffer()))
    return value.as_py()


@lru_cache(maxsize=64)
def _starts(images: str, path: bytes) -> list[int]:
    with locate(images).open(path) as file:
        return row_group_starts(file)


# Threads that miss the same group would each read it.
_one_reads = threading.Lock()


# Rows come in order, and a row group can only be read whole: the last one is kept.
@lru_cache(maxsize=1)
def _row_group(images: str, path: bytes, group: int) -> pa.ChunkedArray:
    with locate(images).open(path) as file:
        return read_row_group(file, group)


def _reason(error: OSError) -> Reason:
    if error.errno in _NOT_FOUND or isinstance(error, FileNotFoundError):
        return Reason.NOT_FOUND
    if error.errno in _NOT_PERMITTED or isinstance(error, PermissionError):
        return Reason.NOT_PERMITTED
    return Reason.NOT_A_FILE if isinstance(error, IsADirectoryError) else Reason.READ_ERROR


def _say(error: OSError) -> str:
    # The error's own text may repeat a URI with its keys.
    return os.strerror(error.errno) if error.errno else type(error).__name__
