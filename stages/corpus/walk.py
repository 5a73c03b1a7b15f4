"""Find files below a root: on this machine with links, loops and locked folders in it, or behind fsspec."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fsspec.spec import AbstractFileSystem

from stages.corpus.names import ARCHIVES, Role, role
from stages.storage.location import redact


class Found(NamedTuple):
    """File below the root, or a folder with a photo's name or without access, that a run must account for.

    Attributes:
        relative: path below the root, raw bytes.
        regular: a readable kind of file; otherwise a directory, pipe, device, dangling link or locked folder.
        size: in bytes, where the file system lists it.
        other: neither a photo nor an archive by its name: counted, not listed.
        stamp: text that changes with the content, of an archive, where the file system has such a thing.
    """

    relative: bytes
    regular: bool = True
    size: int | None = None
    other: bool = False
    stamp: str | None = None


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
                listed = sorted(entries, key=lambda entry: entry.name)
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
                found = Found(relative, regular=is_file, other=kind is Role.OTHER)
                yield stamped(found, entry.stat) if is_file and kind in ARCHIVES else found


def _kind(entry: os.DirEntry[bytes]) -> tuple[bool, bool]:
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:  # a link in a circle, or one into a locked folder
        return False, False


def stamped(found: Found, stat: Callable[[], os.stat_result]) -> Found:
    """Return a local archive with its size and stamp; as it is where the system refuses."""
    try:
        state = stat()
    except OSError:
        return found
    return found._replace(size=state.st_size, stamp=f"{state.st_size} {state.st_mtime_ns} {state.st_ino}")


_STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated")


def remote_stamp(details: Mapping[str, Any]) -> str | None:
    """Return a text that changes with the content of a remote file; None where its details have no such thing."""
    known = {name: str(details[name]) for name in _STAMPS if details.get(name)}
    return f"{details.get('size')} {sorted(known.items())}" if known else None


def walk_remote(filesystem: AbstractFileSystem, root: str) -> Iterator[Found]:
    """Yield every file below `root`, a folder at a time."""
    prefix = len(redact(root))
    filesystem.invalidate_cache()  # of what a store listed before, which may have changed since
    for folder, _, files in filesystem.walk(root, detail=True):
        for _, details in sorted(files.items()):
            relative = os.fsencode(redact(details["name"])[prefix:].lstrip("/"))
            if relative and not relative.endswith(b"/"):  # else an index page's link to itself, such as ?C=N
                yield Found(
                    relative,
                    size=details.get("size"),
                    other=role(relative) is Role.OTHER,
                    stamp=remote_stamp(details),
                )
        filesystem.invalidate_cache(folder)  # else a store keeps all that it ever listed
