"""Where images lie: on this machine or behind a URI; and URIs without the secrets in them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import fsspec
from fsspec.spec import AbstractFileSystem

# A key's secret may hold '/', so 'name:secret@' counts as credentials even across slashes, but 'host:9000/' does not.
_CREDENTIALS = re.compile(r"^(?:[^/]*@|[^/:@]*:(?!\d*(?:/|$))[^@]*@)")
_LOCAL = re.compile(r"^(?:file|local)://")


def absolute(uri: str) -> str:
    """Make a local path absolute, since workers run in folders of their own; leave any other URI as it is."""
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def redact(uri: str) -> str:
    """`uri` without user, password, keys, query and fragment. A path without a scheme is returned as it is."""
    if "://" not in uri:
        return uri
    return "::".join(_redact_one(part) for part in uri.split("::"))


def _redact_one(part: str) -> str:
    scheme, separator, rest = part.partition("://")
    if not separator:
        return part
    return f"{scheme}://" + re.split(r"[?#]", _CREDENTIALS.sub("", rest), maxsplit=1)[0]


@dataclass(frozen=True)
class Location:
    """The place that an images argument names.

    Attributes:
        filesystem: fsspec's, or None for this machine's own files.
        path: absolute path as that file system knows it; on this machine, `os.fsdecode`d. May hold credentials where
            the file system keeps them in its paths (HTTP).
    """

    filesystem: AbstractFileSystem | None
    path: str

    def open(self, path: bytes) -> BinaryIO:
        """Open the file at `path` (as the manifest has it) for reading at random."""
        if self.filesystem is None:
            return open(path, "rb")  # noqa: PTH123 - pathlib knows no bytes
        # Headers of tars and footers of Parquet files are small and far apart: blocks of fsspec's 5 MB would be waste.
        return cast(BinaryIO, self.filesystem.open(self.real(path), "rb", block_size=1 << 16))

    def real(self, path: bytes) -> str:
        """The file system's own path for one that the manifest has, where credentials were taken out."""
        stored, clean = os.fsdecode(path), redact(self.path)
        return self.path + stored[len(clean) :] if stored.startswith(clean) else stored


def locate(images: str) -> Location:
    """The location that a path or an fsspec URI names; nothing is read.

    Raises:
        ValueError: no file system answers to the URI's scheme, or its package is missing.
    """
    if os.path.lexists(images) or "://" not in images:
        return Location(None, os.path.abspath(images))  # noqa: PTH100 - keeps bytes that are not UTF-8
    if _LOCAL.match(images):
        return Location(None, os.path.abspath(_LOCAL.sub("", images)))  # noqa: PTH100
    try:
        filesystem, path = fsspec.core.url_to_fs(images)
    except (ValueError, ImportError, TypeError):
        # The error's own text may repeat the URI with its keys.
        raise ValueError(f"images {redact(images)!r}: no such scheme for fsspec, or its package is missing") from None
    return Location(filesystem, path.rstrip("/"))
