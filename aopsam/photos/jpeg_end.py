"""Mend a JPEG that lacks its end marker, if every block is there."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

_START_OF_SCAN, _RESTART_INTERVAL, _END_OF_IMAGE = 0xDA, 0xDD, b"\xff\xd9"
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; all with Huffman codes
_TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)})  # DHT, DQT, DRI, COM, APP
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
# A marker in coded data: not a stuffed 0.
_END_OF_SCAN = re.compile(rb"\xff+(?![\x00\xff])")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# As many equal bytes at the end are what a disk or a recorder fills with, not blocks.
_FILL = re.compile(rb"(.)\1{31,}\Z", re.DOTALL)
_STRIP_ROWS = 256
# None holds a 0xff. Whole coded data decodes to the same pixels whatever follows; missing blocks are read from these.
_TAILS = tuple(np.random.default_rng(seed).integers(0, 255, 256, np.uint8).tobytes() for seed in (1, 2, 3))


def has_end(data: bytes) -> bool:
    """Return whether a JPEG has an end marker after a scan; one that a thumbnail in its header has does not count."""
    return data.rfind(_END_OF_IMAGE) > data.rfind(bytes([0xFF, _START_OF_SCAN]))


def mend_end(data: bytes) -> bytes | None:
    """Return a JPEG with its end marker after its last scan, or None if blocks are missing or may be.

    Decodes the photo two to nine times. Nothing is known of a JPEG with arithmetic coding: None.

    Raises:
        Exception: Pillow cannot read it.
    """
    scan = _last_scan(data)
    if scan is None:
        return None
    start, end = scan
    filled = _FILL.search(data, start, end)
    if not filled:
        return data[:end] + _END_OF_IMAGE if _is_whole(data, start, end) else None
    photo_end = filled.start() + 1  # the first may be the photo's own
    if _is_whole(data, start, photo_end):
        return data[:photo_end] + _END_OF_IMAGE
    # A flat photo may end in equal bytes; then it needs the last of them.
    if _is_whole(data, start, end) and not _is_whole(data, start, end - 1):
        return data[:end] + _END_OF_IMAGE
    return None


def _is_whole(data: bytes, start: int, end: int) -> bool:
    """Return whether the last scan, coded from start to end, has every block."""
    body = data[:end]
    restart = bytes([0xFF, 0xD0 + len(_RESTART.findall(data, start, end)) % 8])
    first, *others = (body + tail + restart + tail + _END_OF_IMAGE for tail in _TAILS)
    pixels = _digest(first)
    return all(_digest(other) == pixels for other in others)


def _last_scan(data: bytes) -> tuple[int, int] | None:
    """Return start and end of the coded data of the scan after which every coefficient has all its bits."""
    missing: set[tuple[int, int]] = set()
    for marker, start, end, coded_end in _segments(data):
        if marker in _FRAMES:
            missing = {(component, place) for component in data[start + 6 : end : 3] for place in range(64)}
        elif marker == _START_OF_SCAN:
            first, last, bits = data[end - 3 : end]
            if bits & 15 == 0:
                of = data[start + 1 : end - 3 : 2]
                missing -= {(component, place) for component in of for place in range(first, last + 1)}
            if not missing:
                return end, coded_end
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield marker, start and end of each segment (without its length), and the end of coded data after it."""
    at, restarts = 2, False
    while (found := _MARKER.match(data, at)) and found.end() + 2 <= len(data):
        marker, start = found[1][0], found.end() + 2
        end = found.end() + int.from_bytes(data[found.end() : start])
        if marker not in _FRAMES | _TABLES | {_START_OF_SCAN} or not start <= end <= len(data):
            return
        if marker == _RESTART_INTERVAL:
            restarts = any(data[start:end])
        at = _end_of_scan(data, end, restarts) if marker == _START_OF_SCAN else end
        yield marker, start, end, at


def _end_of_scan(data: bytes, start: int, restarts: bool) -> int:
    """Return where coded data ends: at the first marker that is not the next restart."""
    for restart, found in enumerate(_END_OF_SCAN.finditer(data, start)):
        if not restarts or data[found.end() : found.end() + 1] != bytes([0xD0 + restart % 8]):
            return found.start()
    return len(data)


def _digest(data: bytes) -> bytes:
    """Decode a JPEG and return a digest of its pixels, a strip at a time."""
    image = JpegImageFile(io.BytesIO(data))
    image.load()
    digest = hashlib.blake2b()
    for top in range(0, image.height, _STRIP_ROWS):
        digest.update(image.crop((0, top, image.width, min(top + _STRIP_ROWS, image.height))).tobytes())
    return digest.digest()
