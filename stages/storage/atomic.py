"""Write files that appear whole or not at all."""

from __future__ import annotations

import os
import posixpath
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from stages.storage.errors import CannotWrite
from stages.storage.location import has_folders, open_filesystem, redact

PART = ".part"
"""Suffix of a file that is still being written, whose name starts with a dot."""


@contextmanager
def write_text(uri: str) -> Iterator[TextIO]:
    """Open a text file (UTF-8) that appears under its name when the block ends without an error (`write_path`).

    Bytes of paths that are not UTF-8 (`os.fsdecode`) are written as `\\udcff`: as JSON has them, and reads them back.
    """
    with write_path(uri) as part, part.open("x", encoding="utf-8", errors="backslashreplace") as opened:
        yield opened


def write_bytes(uri: str, data: bytes) -> None:
    """Write a whole file (`write_path`)."""
    with write_path(uri) as part:
        part.write_bytes(data)


@contextmanager
def write_path(uri: str) -> Iterator[Path]:
    """Give a path to write to; what is there appears at `uri` when the block ends without an error.

    Locally by a rename within its folder; elsewhere by uploading the finished file. Missing folders are made. The
    former file stays until then, and for good if the block raises.

    Args:
        uri: a local path or an fsspec URI.

    Raises:
        CannotWrite: the system or the store refuses.
    """
    filesystem, path = open_filesystem(uri)
    parent, _, name = path.rpartition("/")
    is_local = isinstance(filesystem, LocalFileSystem)
    part = Path(parent if is_local else tempfile.gettempdir()) / f".{name}.{uuid.uuid4().hex}{PART}"
    if has_folders(filesystem):
        with refusals(uri, Exception):
            filesystem.makedirs(parent, exist_ok=True)
    try:
        with refusals(uri, OSError):
            yield part
        with refusals(uri, Exception):
            if is_local:
                with part.open("rb") as written:
                    os.fsync(written.fileno())
                part.replace(path)
            else:
                filesystem.put_file(str(part), path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def refusals(uri: str, kind: type[Exception]) -> Iterator[None]:
    """Name the file in what is raised, of a kind, while it is written.

    Raises:
        CannotWrite: in place of it.
    """
    try:
        yield
    except kind as error:
        kept = "what was written before is kept"
        raise CannotWrite(f"{redact(uri)}: cannot be written ({_reason(error)}); {kept}") from error


def _reason(error: BaseException | None) -> str:
    """Return a refusal in words; a store's own text may repeat the URI with its keys."""
    if isinstance(error, CannotWrite):
        return _reason(error.__cause__)
    if isinstance(error, FileNotFoundError | PermissionError) and not error.errno:  # a store's
        return "no such bucket" if isinstance(error, FileNotFoundError) else "permission denied"
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__


def check_writable(out: str, *names: str) -> None:
    """Check before the work that files can be written into OUT; leave nothing there.

    Writes a file of its own into each folder as `write_path` will, and removes it and the folders made for it.

    Args:
        out: folder or fsspec URI; need not be there.
        names: what will be written, relative to it: files, or folders, which end in a slash.

    Raises:
        ValueError: OUT or a folder in it cannot be written, or a folder has the name of a file to be written.
    """
    filesystem, root = open_filesystem(out)
    taken = [name for name in names if not name.endswith("/") and filesystem.isdir(f"{root}/{name}")]
    if taken:
        raise ValueError(f"{redact(out)}: {taken[0]} is a folder there, and is to be a file; give another --out")
    for folder in sorted({posixpath.dirname(name) for name in ("", *names)}):
        try:
            _try_to_write(f"{out.rstrip('/')}/{folder}".rstrip("/"))
        # A store's own exceptions have no common base, and their texts may repeat the URI with its keys.
        except Exception as error:
            place = f"{redact(out).rstrip('/')}/{folder}".rstrip("/")
            raise ValueError(f"{place}: cannot be written ({_reason(error)}); give an --out that can be") from None


def _try_to_write(folder: str) -> None:
    filesystem, path = open_filesystem(folder)
    missing = _missing_folders(filesystem, path) if has_folders(filesystem) else []
    probe = f".probe-{uuid.uuid4().hex}{PART}"
    try:
        write_bytes(f"{folder}/{probe}", b"probe")
        filesystem.rm_file(f"{path}/{probe}")
    finally:
        for made in missing:
            with suppress(Exception):  # not made after all, or somebody else's by now
                filesystem.rmdir(made)


def _missing_folders(filesystem: AbstractFileSystem, path: str) -> list[str]:
    """Return the folders on the way to `path` that are not there, the deepest first."""
    missing = []
    while path.strip("/") and not filesystem.exists(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    return missing
