"""Bring single files, such as weights, onto this machine from anywhere: each is fetched once, into a cache."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import overload

from fsspec.implementations.local import LocalFileSystem

from aopsam._cache_dir import cache_dir
from stages.storage.location import open_filesystem, redact


@overload
def local_file(uri: str) -> str: ...
@overload
def local_file(uri: None) -> None: ...
@overload
def local_file(uri: str | None) -> str | None: ...
def local_file(uri: str | None) -> str | None:
    """Return a path on this machine of a file anywhere: its own, or that of its copy in the cache (`cache_dir`).

    A copy belongs to the content: its name has the store's tag of it, and the store is asked for that each time.

    Args:
        uri: a path or an fsspec URI; None, for files that the library brings along, stays None.

    Raises:
        OSError: no such file, or the store refuses; for a path on this machine whoever opens it says so.
        ValueError: no file system answers to the URI.
    """
    if uri is None:
        return None
    filesystem, path = open_filesystem(uri)
    if isinstance(filesystem, LocalFileSystem):
        return path
    try:
        filesystem.invalidate_cache(path.rpartition("/")[0])
        tag = filesystem.info(path).get("ETag") or filesystem.ukey(path)
        digest = hashlib.sha256(f"{redact(uri)}\0{tag}".encode()).hexdigest()[:32]
        copy = cache_dir() / "fetched" / digest / path.rpartition("/")[2]
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            part = copy.with_name(f".{uuid.uuid4().hex}.part")
            try:
                filesystem.get_file(path, str(part))
                part.replace(copy)  # two that fetch it at once replace a file by the same file
            finally:
                part.unlink(missing_ok=True)
    # A store's own exceptions have no common base, and their texts may repeat the URI with its keys.
    except Exception as error:
        raise _refusal(uri, error) from None
    return str(copy)


def read_file(uri: str) -> bytes:
    """Read a small file from anywhere.

    Raises:
        OSError: no such file, or it cannot be read.
        ValueError: no file system answers to the URI.
    """
    filesystem, path = open_filesystem(uri)
    if isinstance(filesystem, LocalFileSystem):
        return Path(path).read_bytes()
    try:
        return bytes(filesystem.cat_file(path))
    except Exception as error:
        raise _refusal(uri, error) from None


def _refusal(uri: str, error: Exception) -> OSError:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{redact(uri)}: no such file")
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
    return OSError(f"{redact(uri)}: cannot be read ({reason})")
