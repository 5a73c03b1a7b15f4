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


@contextmanager
def write_text(uri: str) -> Iterator[TextIO]:
    """Open a text file (UTF-8) that appears under its name when the block ends without an error.

    Locally by a rename within its folder; elsewhere by uploading the finished file. Missing folders are made. The
    former file stays until then, and for good if the block raises.

    Args:
        uri: a local path or an fsspec URI.
    """
    filesystem, path = fsspec.url_to_fs(uri)
    parent, _, name = path.rpartition("/")
    filesystem.makedirs(parent, exist_ok=True)
    is_local = isinstance(filesystem, LocalFileSystem)
    part = Path(parent if is_local else tempfile.gettempdir()) / f".{name}.{uuid.uuid4().hex}.part"
    try:
        with part.open("x", encoding="utf-8") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        if is_local:
            part.replace(path)
        else:
            filesystem.put_file(str(part), path)
    finally:
        part.unlink(missing_ok=True)
