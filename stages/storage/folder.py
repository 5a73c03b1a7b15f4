"""Write a folder of many files that appears whole or not at all."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from stages.storage.atomic import PART, check_writable, refusals
from stages.storage.location import has_folders, open_filesystem, redact


class NewFolder:
    """A folder that is being written.

    Attributes:
        uri: where it will be.
    """

    def __init__(self, uri: str, filesystem: AbstractFileSystem, path: str) -> None:
        self.uri = uri
        self._filesystem, self._path = filesystem, path
        self._made: set[str] = set()

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file for writing, by its path in the folder; missing folders are made.

        Raises:
            CannotWrite: the system or the store refuses.
        """
        path = f"{self._path}/{name}"
        parent = posixpath.dirname(path)
        with refusals(f"{self.uri}/{name}", OSError):
            if parent not in self._made and has_folders(self._filesystem):
                self._filesystem.makedirs(parent, exist_ok=True)
                self._made.add(parent)
            with self._filesystem.open(path, "wb") as opened:
                yield cast(BinaryIO, opened)

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file (see `open`)."""
        with self.open(name) as opened:
            opened.write(data)


@contextmanager
def write_folder(uri: str) -> Iterator[NewFolder]:
    """Give a folder to write into; it appears at `uri` when the block ends without an error.

    Locally by a rename. A store knows none: there files appear as they are written, and go if the block raises; a
    kill leaves some, so what lists the others is written last.

    Args:
        uri: a local path or an fsspec URI, of nothing or of an empty folder.

    Raises:
        ValueError: something is there, or it cannot be written.
        CannotWrite: the system or the store refuses.
    """
    check_writable(uri)
    filesystem, path = open_filesystem(uri)
    filesystem.invalidate_cache()
    if filesystem.isfile(path) or (filesystem.isdir(path) and filesystem.ls(path, detail=False)):
        raise ValueError(f"{redact(uri)}: is not empty; give another --out, or remove it first")
    is_local = isinstance(filesystem, LocalFileSystem)
    parent, _, name = path.rpartition("/")
    part = f"{parent}/.{name}.{uuid.uuid4().hex}{PART}" if is_local else path
    try:
        if has_folders(filesystem):
            with refusals(uri, Exception):
                filesystem.makedirs(part, exist_ok=True)
        yield NewFolder(uri, filesystem, part)
        if is_local:
            with refusals(uri, OSError):
                Path(part).rename(path)
    except BaseException:
        with suppress(Exception):  # what was raised says more
            filesystem.rm(part, recursive=True)
        raise
