"""Write photos into tars of limited size, one open at a time."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from stages.storage.folder import NewFolder

SHARD_BYTES = 256 << 20
"""Bytes after which a shard is closed and the next one begun."""


class Shards:
    """Tars of a folder, the last of which is open.

    Attributes:
        names: members of the open one.
    """

    def __init__(self, folder: NewFolder, pattern: str, shard_bytes: int = SHARD_BYTES) -> None:
        self.names: set[str] = set()
        self._folder, self._pattern, self._most = folder, pattern, shard_bytes
        self._opened = ExitStack()
        self._tar: tarfile.TarFile | None = None
        self._number = self._bytes = 0

    def add(self, members: Mapping[str, bytes]) -> None:
        """Write the members of a photo, into one tar."""
        if self._tar is None or self._bytes >= self._most:
            self.close()
            opened = self._opened.enter_context(self._folder.open(self._pattern.format(self._number)))
            self._tar = self._opened.enter_context(tarfile.TarFile(fileobj=opened, mode="w"))
            self._number, self._bytes, self.names = self._number + 1, 0, set()
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))
            self._bytes += len(data)
        self.names |= set(members)

    def close(self) -> None:
        """Finish the open tar."""
        self._tar = None
        self._opened.close()


@contextmanager
def shards(folder: NewFolder, pattern: str, shard_bytes: int = SHARD_BYTES) -> Iterator[Shards]:
    """Give tars named by a pattern of their number; at least one is written."""
    made = Shards(folder, pattern, shard_bytes)
    try:
        yield made
        if not made.names:
            made.add({})
    finally:
        made.close()
