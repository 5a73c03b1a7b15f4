"""From a raw path to its role (photo or archive), whether it is hidden, its text to show, and the image's id."""

from __future__ import annotations

import hashlib
import re
from enum import Enum, auto

PHOTO_SUFFIXES = frozenset(
    b".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm".split()
    + b".heic .heif .hif".split()  # decoded where the extra is installed
    # Not decoded, yet photos: each becomes a row that says so.
    + b".jp2 .jxl".split()
)
"""Lower-case suffixes of files that are photos; case does not matter, other files are only counted."""

_ZIPS = (b".zip", b".7z", b".rar")
_COMPRESSED_TARS = (b".tar.gz", b".tgz", b".tar.bz2", b".tbz2", b".tar.xz", b".txz", b".tar.zst")
_LONGEST_SUFFIX = 16
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


class Role(Enum):
    """Kind of a file, by its name."""

    PHOTO = auto()
    TAR = auto()
    COMPRESSED_TAR = auto()
    ZIP = auto()
    PARQUET = auto()
    OTHER = auto()


ARCHIVES = (Role.TAR, Role.PARQUET)
"""Kinds of files that hold photos and can be read at random."""


def role(name: bytes) -> Role:
    """Return the role of a file or tar member, by the end of its name."""
    name = name.lower()
    dot = name.rfind(b".")
    suffix = name[dot:] if dot >= 0 else b""
    if suffix in PHOTO_SUFFIXES:
        return Role.PHOTO
    if suffix == b".tar":
        return Role.TAR
    if suffix == b".parquet":
        return Role.PARQUET
    if suffix in _ZIPS:
        return Role.ZIP
    return Role.COMPRESSED_TAR if name.endswith(_COMPRESSED_TARS) else Role.OTHER


def suffix(name: bytes) -> str:
    """Return the suffix of a file's name, in lower case, as text to show; `no suffix` where none or a long one."""
    _, dot, end = name.rpartition(b"/")[2].lower().rpartition(b".")
    text = shown(end)
    return f".{text}" if dot and 0 < len(text) <= _LONGEST_SUFFIX and text.isprintable() else "no suffix"


def is_hidden(relative: bytes) -> bool:
    """Return whether a part of the path below the root, folder or file, starts with `.` or `_`."""
    return relative.startswith((b".", b"_")) or b"/." in relative or b"/_" in relative


def shown(raw: bytes) -> str:
    """Return a name as valid text, for people: bytes that are not UTF-8 become `%XX`. Two names may give one text."""
    text = raw.decode("utf-8", "surrogateescape")
    return _ESCAPED_BYTE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)


def image_id(relative: bytes, member: bytes | None = None) -> str:
    """Return the id of an image: the first 32 hex digits of the SHA-256 of its place below the images' root.

    It stays the same when the root moves.

    Args:
        relative: path below the root, raw bytes.
        member: name in a tar or row number in a Parquet file, if it is in one.
    """
    # A path holds no NUL, so the pair cannot be mistaken for another one.
    place = relative if member is None else relative + b"\0" + member
    return hashlib.sha256(place).hexdigest()[:32]
