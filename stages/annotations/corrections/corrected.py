"""Photos with the shapes that people left or drew: results of the readers of corrected files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aopsam.photos.decode import MAX_PIXELS
from aopsam.photos.lines import shown
from stages.storage.location import open_filesystem, redact

MAX_BYTES = 1 << 30
"""Bytes of the largest file that is read."""
MOST_SHAPES = 20_000
"""Shapes that a photo may have."""


@dataclass(frozen=True)
class Shape:
    """A shape of a photo.

    Attributes:
        name: of it in lines that name problems.
        segmentation: polygons or an RLE as COCO has them, not checked.
        mask: place in the labels' row that it was exported with, if the tool kept it.
    """

    name: str
    segmentation: Any
    mask: int | None = None


@dataclass
class CorrectedPhoto:
    """A photo of a corrected file.

    Attributes:
        file_name: as in the labels.
        width: pixels, as the file says; None where it does not.
        height: likewise.
        shapes: what is on it.
        faults: one line each for what is no shape; a photo with some is not imported.
    """

    file_name: str
    width: Any = None
    height: Any = None
    shapes: list[Shape] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_file(uri: str) -> bytes:
    """Return the content of a corrected file.

    Raises:
        ValueError: it is larger than `MAX_BYTES`, or cannot be read.
    """
    filesystem, path = open_filesystem(uri)
    try:
        size = filesystem.size(path)
        if size is not None and size > MAX_BYTES:
            raise ValueError(f"{redact(uri)}: {size} bytes, over the limit of {MAX_BYTES}; export fewer photos at once")
        return bytes(filesystem.cat_file(path))
    except OSError as error:
        raise ValueError(f"{redact(uri)}: cannot be read ({error.strerror or type(error).__name__})") from error


def check_size(width: Any, height: Any) -> tuple[int, int]:
    """Return the sides of a photo, in pixels, that a file states as numbers or text.

    Raises:
        ValueError: they are no whole numbers, or more than `MAX_PIXELS` together: a mask would take as many bytes.
    """
    sides = []
    for side in (width, height):
        text = str(side) if isinstance(side, int | str) and not isinstance(side, bool) else ""
        sides.append(int(text) if text.isascii() and text.isdecimal() and len(text) <= 6 else 0)
    if not 0 < sides[0] * sides[1] <= MAX_PIXELS:
        raise ValueError(f"a photo of {shown(width)} x {shown(height)} pixels; it may have 1 to {MAX_PIXELS}")
    return sides[0], sides[1]


def listed(record: Any, name: str, about: str) -> Sequence[Any]:
    """Return a list of an object.

    Raises:
        ValueError: `record` is no object with such a list; the message is `about`.
    """
    found = record.get(name) if isinstance(record, dict) else None
    if not isinstance(found, list):
        raise ValueError(about)
    return found


def place(value: Any) -> int | None:
    """Return the place of a mask that a file gives; None for what is none."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else None
