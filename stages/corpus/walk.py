"""Find files below a root: on this machine with links, loops and locked folders in it, or behind fsspec."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from typing import NamedTuple

from fsspec.spec import AbstractFileSystem

from stages.corpus.names import Role, role
from stages.storage.location import redact


class Found(NamedTuple):
    """File below the root, or a folder with a photo's name or without access, that a run must account for.

    Attributes:
        relative: path below the root, raw bytes.
        regular: a readable kind of file; otherwise a directory, pipe, device, dangling link or locked folder.
        size: in bytes, where the file system lists it.
        other: neither a photo nor an archive by its name: counted, not listed.
    """

    relative: bytes
    regular: bool = True
    size: int | None = None
    other: bool = False


def walk_local(root: bytes, excluded: bytes | None = None) -> Iterator[Found]:
    """Yield every file below `root`, folders with a photo's name, and folders that cannot be listed.

    Links to folders are followed after all real folders, and no folder is entered twice: loops end, and a photo keeps
    the name of its real folder.

    Args:
        root: absolute path of a folder.
        excluded: path below the root that is left out, with everything in it.

    Raises:
        OSError: the root itself cannot be listed.
    """
    folders, links = [b""], list[bytes]()
    entered = set[tuple[int, int]]()
    while folders or links:
        folder = folders.pop() if folders else heapq.heappop(links)
        try:
            identity = os.stat(root + b"/" + folder)  # noqa: PTH116 - pathlib knows no bytes
            if (identity.st_dev, identity.st_ino) in entered:
                continue
            entered.add((identity.st_dev, identity.st_ino))
            with os.scandir(root + b"/" + folder) as entries:
                listed = list(entries)
        except OSError:
            if not folder:
                raise
            yield Found(folder.rstrip(b"/"), regular=False)
            continue
        for entry in listed:
            relative = folder + entry.name
            if relative == excluded:
                continue
            is_folder, is_file = _kind(entry)
            kind = role(entry.name)
            if is_folder and entry.is_symlink():
                heapq.heappush(links, relative + b"/")
            elif is_folder:
                folders.append(relative + b"/")
            if kind is Role.PHOTO or not is_folder:
                yield Found(relative, regular=is_file, other=kind is Role.OTHER)


def _kind(entry: os.DirEntry[bytes]) -> tuple[bool, bool]:
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:  # a link in a circle, or one into a locked folder
        return False, False


def walk_remote(filesystem: AbstractFileSystem, root: str) -> Iterator[Found]:
    """Yield every file below `root`."""
    prefix = len(redact(root))
    for path, details in filesystem.find(root, detail=True).items():
        relative = os.fsencode(redact(path)[prefix:].lstrip("/"))
        if relative and not relative.endswith(b"/"):  # else an index page's link to itself, such as ?C=N
            yield Found(relative, size=details.get("size"), other=role(relative) is Role.OTHER)
