"""Find files by a path or a URI, and take the secrets out of URIs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

# A key's secret may hold '/', so 'name:secret@' counts as credentials even across slashes, but 'host:9000/' does not.
_CREDENTIALS = re.compile(r"^(?:[^/]*@|[^/:@]*:(?!\d*(?:/|$))[^@]*@)")
_LOCAL = re.compile(r"^(?:file|local)://(?:localhost(?=/))?")
_NOT_UTF8 = re.compile("[\udc80-\udcff]+")


_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}
"""Protocols of stores without folders, to which a missing bucket is the only missing folder."""


def absolute(uri: str) -> str:
    """Make a local path absolute, since workers run in folders of their own; drop a slash at any other URI's end."""
    if "://" not in uri:
        return str(Path(uri).expanduser().absolute())
    return uri.rstrip("/") if uri.rpartition("://")[2].strip("/") else uri


def has_folders(filesystem: AbstractFileSystem) -> bool:
    """Tell whether a file needs its folder to be made first; where not, making it would make a missing bucket."""
    protocols = {filesystem.protocol} if isinstance(filesystem.protocol, str) else set(filesystem.protocol)
    return not protocols & _OBJECT_STORES


def open_filesystem(uri: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system that a path or an fsspec URI names, and the path there; nothing is read.

    What has no `://` is a path on this machine, whatever else is in it (`run::2`, `file:x`). In `file://` URIs `%20` is
    a blank, as in any URI; paths are taken literally.

    Raises:
        ValueError: no file system answers to the URI's scheme, its package is missing, or the archive that
            it names cannot be opened.
    """
    if "://" not in uri:
        return LocalFileSystem(), _local_path(uri)
    if _LOCAL.match(uri):
        return LocalFileSystem(), _local_path(_unquoted(uri))
    try:
        filesystem, path = fsspec.url_to_fs(uri)
    except (ValueError, ImportError, TypeError):
        # The error's own text may repeat the URI with its keys.
        raise ValueError(f"{redact(uri)!r}: no such scheme for fsspec, or its package is missing") from None
    except Exception as error:  # an archive is opened at once, and its exceptions have no common base
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
        raise ValueError(f"{redact(uri)!r}: cannot be opened ({reason}); a zip's content is zip://::FILE") from None
    return filesystem, path


def uri_of(filesystem: AbstractFileSystem, path: str) -> str:
    """Return the URI, valid text, from which `open_filesystem` gives this file system and path."""
    uri: str = filesystem.unstrip_protocol(path)
    return printable(uri.replace("%", "%25")) if isinstance(filesystem, LocalFileSystem) else uri


def printable(uri: str) -> str:
    """Return a path or URI as valid text: bytes that are not UTF-8 appear as `%XX`."""
    return _NOT_UTF8.sub(lambda odd: quote(os.fsencode(odd[0])), uri)


def _local_path(path: str) -> str:
    return absolute(path).rstrip("/") or "/"


def _unquoted(uri: str) -> str:
    return unquote(_LOCAL.sub("", uri), errors="surrogateescape")


def redact(uri: str) -> str:
    """Return `uri` without user, password, keys, query and fragment; a place on this machine is returned as it is."""
    if "://" not in uri or _LOCAL.match(uri):
        return uri
    return "::".join(_redact_one(part) for part in uri.split("::"))


def _redact_one(part: str) -> str:
    scheme, separator, rest = part.partition("://")
    if not separator:
        return part
    return f"{scheme}://" + re.split(r"[?#]", _CREDENTIALS.sub("", rest), maxsplit=1)[0]


@dataclass(frozen=True)
class Location:
    """Place that an images argument names.

    Attributes:
        filesystem: fsspec's file system, or None for this machine's own files.
        path: absolute path in that file system; on this machine, `os.fsdecode`d. May hold credentials where
            the file system keeps them in its paths (HTTP).
    """

    filesystem: AbstractFileSystem | None
    path: str

    def open(self, path: bytes) -> BinaryIO:
        """Open the file at `path` (as in the listing) for reading at random."""
        if self.filesystem is None:
            return open(path, "rb")  # noqa: PTH123 - pathlib knows no bytes
        # Headers of tars and footers of Parquet files are small and far apart: blocks of fsspec's 5 MB would be waste.
        return cast(BinaryIO, self.filesystem.open(self.real(path), "rb", block_size=1 << 16))

    def real(self, path: bytes) -> str:
        """Return the file system's own path, with credentials, for a path of the listing, which has none."""
        stored, clean = os.fsdecode(path), redact(self.path)
        return self.path + stored[len(clean) :] if stored.startswith(clean) else stored


def locate(images: str) -> Location:
    """Return the location that a path or an fsspec URI names; nothing is read.

    Raises:
        ValueError: no file system answers to the URI's scheme, its package is missing, or the archive that
            it names cannot be opened.
    """
    if os.path.lexists(images) or "://" not in images:
        return Location(None, os.path.abspath(images))  # noqa: PTH100 - keeps bytes that are not UTF-8
    if _LOCAL.match(images):
        return Location(None, os.path.abspath(_unquoted(images)))  # noqa: PTH100
    try:
        filesystem, path = open_filesystem(images)
    except ValueError as error:
        raise ValueError(f"images {error}") from None
    return Location(filesystem, path.rstrip("/"))
