"""Write a file so that nobody ever finds half of it."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

PART = ".part"
"""How the name of a file ends that is still being written; its first character is a dot."""


@contextmanager
def write_text(uri: str) -> Iterator[TextIO]:
    """Open a text file (UTF-8) that appears under its name when the block ends without an error (`write_path`)."""
    with write_path(uri) as part, part.open("x", encoding="utf-8") as opened:
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
    """
    filesystem, path = fsspec.url_to_fs(uri)
    parent, _, name = path.rpartition("/")
    filesystem.makedirs(parent, exist_ok=True)
    is_local = isinstance(filesystem, LocalFileSystem)
    part = Path(parent if is_local else tempfile.gettempdir()) / f".{name}.{uuid.uuid4().hex}{PART}"
    try:
        yield part
        if is_local:
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(path)
        else:
            filesystem.put_file(str(part), path)
    finally:
        part.unlink(missing_ok=True)
