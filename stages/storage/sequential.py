"""Read a file from its start to its end in one request, for readers that skip forward and look back a little."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.http import HTTPFileSystem
from fsspec.spec import AbstractFileSystem

CHUNK = 1 << 20
"""Bytes asked of the stream at a time."""

BEHIND = 1 << 16
"""Bytes behind the position that can still be read."""

BLOCK = 1 << 26
"""Bytes a request where a file system cannot stream."""


class SequentialFile(io.RawIOBase):
    """File that is read once, from its start: what is skipped is read and thrown away.

    Memory holds `CHUNK` + `BEHIND` bytes, whatever is skipped.
    """

    def __init__(self, more: Callable[[int], bytes], size: int, close: Callable[[], object] = lambda: None) -> None:
        """Read from a stream.

        Args:
            more: gives the next bytes, about as many as it is asked for; none at the end.
            size: of the file, in bytes.
            close: ends the stream.
        """
        self._more, self._size, self._close = more, size, close
        self._held, self._start, self._at = b"", 0, 0

    def close(self) -> None:
        """End the stream."""
        if not self.closed:
            self._close()
        super().close()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place; what lies further back than `BEHIND` cannot be read any more.

        Raises:
            OSError: from the read that follows.
        """
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return at most `size` bytes from the position, fewer at the end of the file alone.

        Raises:
            OSError: they lie too far back, or the stream ends before the file does.
        """
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if self._at < self._start:
            raise OSError(f"byte {self._at} was read already, and is not kept")
        while self._start + len(self._held) < end:
            data = self._more(CHUNK)
            if not data:
                raise OSError(f"the stream ends at byte {self._start + len(self._held)} of {self._size}")
            keep_from = min(self._at, self._start + len(self._held)) - BEHIND
            cut = max(0, keep_from - self._start)
            self._held, self._start = self._held[cut:] + data, self._start + cut
        found = self._held[self._at - self._start : max(end, self._at) - self._start]
        self._at += len(found)
        return found


def open_sequential(filesystem: AbstractFileSystem, path: str, size: int) -> SequentialFile:
    """Open a remote file to be read once: by one request where its file system can stream, else by large ones.

    Where the stream breaks, what is left is read by large requests.

    Args:
        filesystem: fsspec's file system.
        path: path there.
        size: of the file, in bytes.

    Raises:
        ValueError: a web server that sends no parts of files.
    """
    at = 0
    if isinstance(filesystem, HTTPFileSystem) and size > BEHIND:
        with filesystem.open(path, "rb", block_size=BEHIND) as probe:
            probe.seek(size - 1)  # a server that sends no parts would send the whole archive for each photo
            probe.read(1)
    stream = _stream(filesystem, path)
    broken = stream is None

    def more(count: int) -> bytes:
        nonlocal at, broken
        data = b""
        if not broken:
            try:
                data = sync(filesystem.loop, stream.read, count)
            except Exception:  # a store's own exceptions have no common base
                broken = True
        if not data and at < size:
            data = filesystem.cat_file(path, start=at, end=min(at + BLOCK, size))
        at += len(data)
        return data

    process = os.getpid()

    def close() -> None:
        # A forgotten reader may be closed where no thread of the loop would answer: in a fork, at a program's end.
        if stream is not None and os.getpid() == process and not sys.is_finalizing():
            sync(filesystem.loop, stream.close)

    return SequentialFile(more, size, close)


def _stream(filesystem: AbstractFileSystem, path: str) -> Any:
    """Return a stream of a whole file, read by one request; None where the file system has no such thing."""
    if isinstance(filesystem, AsyncFileSystem):
        with suppress(NotImplementedError):
            return sync(filesystem.loop, filesystem.open_async, path, "rb")
    return None
