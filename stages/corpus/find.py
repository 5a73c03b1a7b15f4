"""Find the files that an images argument (a folder, a file, a glob or a URI) names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

from fsspec.spec import AbstractFileSystem

from stages.corpus.globs import matches, split_glob
from stages.corpus.walk import Found, remote_stamp, stamped, walk_local, walk_remote
from stages.storage.location import Location, redact


@dataclass(frozen=True)
class Selection:
    """Files that an images argument names.

    Attributes:
        root: the folder that ids and file names are relative to, raw bytes, without credentials: the folder itself, the
            parent of a single file, the folder above the first wildcard of a glob.
        found: files below it, as they are found; to be read once.
        explicit: True for a single file that was named outright.
    """

    root: bytes
    found: Iterator[Found]
    explicit: bool = False


class _Unusable(Exception):
    pass


def find(location: Location, images: str, exclude: str | None = None) -> Selection:
    """Find the files that `images` names.

    Args:
        location: location of `images`.
        images: the argument itself.
        exclude: a folder on this machine whose content is left out, such as the run's output.

    Raises:
        ValueError: there is no such file or folder, nothing matches the glob, the location cannot be listed, or
            `exclude` is the images' folder itself.
    """
    try:
        if location.filesystem is None:
            return _find_local(os.fsencode(location.path), exclude)
        return _find_remote(location.filesystem, location.path, images.endswith("/"))
    except FileNotFoundError:
        raise ValueError(f"images {redact(images)!r}: no such file or folder") from None
    except _Unusable as error:
        raise ValueError(f"images {redact(images)!r}: {error}") from None
    # A store's own exceptions have no common base, and their texts may repeat the URI with its keys.
    except Exception as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
        raise ValueError(f"images {redact(images)!r}: cannot be listed ({reason})") from None


def _find_local(path: bytes, exclude: str | None) -> Selection:
    if os.path.isdir(path):  # noqa: PTH112 - pathlib knows no bytes
        return _select(path.rstrip(b"/"), walk_local(path.rstrip(b"/"), _excluded(path, exclude)))
    if os.path.lexists(path):
        root, _, name = path.rpartition(b"/")
        found = Found(name, regular=os.path.isfile(path))  # noqa: PTH113
        if found.regular:
            found = stamped(found, partial(os.stat, path))
        return Selection(root, iter([found]), explicit=True)
    glob = split_glob(os.fsdecode(path), os.path.isdir)
    if glob is None:
        raise FileNotFoundError
    root = os.fsencode(glob[0])
    return _select(root, walk_local(root, _excluded(root or b"/", exclude)), glob[1])


def _excluded(root: bytes, exclude: str | None) -> bytes | None:
    if exclude is None or "://" in exclude:
        return None
    relative = os.path.relpath(os.path.realpath(os.fsencode(exclude)), os.path.realpath(root))
    if relative == b".":
        raise _Unusable("the output folder is the images' folder itself; name one inside or next to it")
    return None if relative == b".." or relative.startswith(b"../") else relative


def _find_remote(filesystem: AbstractFileSystem, path: str, is_folder: bool) -> Selection:
    clean = os.fsencode(redact(path))
    try:
        details = filesystem.info(path)
    except FileNotFoundError:
        glob = split_glob(path, filesystem.isdir)
        if glob is None:
            raise
        root = os.fsencode(redact(glob[0]))
        return _select(root, walk_remote(filesystem, glob[0]), glob[1])
    if is_folder or details["type"] == "directory":
        return _select(clean, walk_remote(filesystem, path))
    parent, _, name = clean.rpartition(b"/")
    found = Found(name, size=details.get("size"), stamp=remote_stamp(details))
    return Selection(parent, iter([found]), explicit=True)


def _select(root: bytes, below: Iterator[Found], pattern: str | None = None) -> Selection:
    """Keep the files that match, if there is a pattern; what cannot be listed is found out here."""
    if pattern is not None:
        below = (one for one in below if matches(os.fsdecode(one.relative), pattern))
    first: list[Found] = []
    for one in below:
        first.append(one)
        if pattern is None or not one.other:
            break
    else:
        if pattern is not None:
            raise _Unusable("no photo and no archive of photos matches this glob")
    return Selection(root, chain(first, below))
