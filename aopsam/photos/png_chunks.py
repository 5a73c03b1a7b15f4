"""Leave out of a PNG what makes neither its pixels nor their colours, so that no faulty or huge text or profile costs
the photo."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_NEXT_PIXELS = re.compile(rb"PLTE|tRNS|IDAT|IEND")
# Where an orientation may lie; any other text is never looked at.
_ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
_MOST_SIDE_BYTES = 1 << 20


def keep_pixel_chunks(data: bytes) -> bytes:
    """Return a PNG without its side chunks, but for sound small ones that hold an orientation or its first profile.

    Chunks that make pixels stay byte for byte, faults and all. A side chunk whose length cannot be right is skipped up
    to the next chunk that makes pixels. Nothing is raised.
    """
    view = memoryview(data)
    return b"".join([_SIGNATURE, *(view[start:end] for start, end in _kept(data))])


def _kept(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of each chunk that stays; the last one may end after the data."""
    start, has_profile = len(_SIGNATURE), False
    while start + 8 <= len(data):
        kind, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(data[start : start + 4])
        if kind in _PIXELS:
            yield start, end
        elif not _is_side_kind(kind):  # what Pillow says of it is right
            yield start, len(data)
            return
        elif not _is_chunk_start(data, end):
            following = _NEXT_PIXELS.search(data, start + 8)
            end = following.start() - 4 if following else len(data)
        elif _is_wanted(data, start, end) and not (kind == b"iCCP" and has_profile):
            has_profile |= kind == b"iCCP"
            yield start, end
        if kind == b"IEND":
            return
        start = max(end, start + 8)


def _is_side_kind(kind: bytes) -> bool:
    return len(kind) == 4 and kind.isalpha() and kind[:1].islower()


def _is_chunk_start(data: bytes, start: int) -> bool:
    kind = data[start + 4 : start + 8]
    return start == len(data) or kind in _PIXELS or _is_side_kind(kind)


def _is_wanted(data: bytes, start: int, end: int) -> bool:
    if end - start > _MOST_SIDE_BYTES:
        return False
    kind, body = data[start + 4 : start + 8], data[start + 8 : end - 4]
    if kind not in {b"eXIf", b"iCCP"} and not (
        kind in {b"tEXt", b"zTXt", b"iTXt"} and body.startswith(_ORIENTATION_TEXTS)
    ):
        return False
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end]) and _is_small_unpacked(
        kind, body
    )


def _is_small_unpacked(kind: bytes, body: bytes) -> bool:
    """Return whether a text or profile unpacks, into at most 1 MiB."""
    after = body[body.find(b"\0") + 1 :]
    if kind in {b"zTXt", b"iCCP"}:
        packed = after[1:]
    elif kind == b"iTXt" and after[:1] == b"\1":
        packed = after[2:].split(b"\0", 2)[-1]
    else:
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, _MOST_SIDE_BYTES)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail
