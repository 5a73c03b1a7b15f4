"""Mend a JPEG that lacks its end marker, if every block is there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aopsam.photos.jpeg_codes import Frame, Scan, end_of_blocks

_START_OF_SCAN, _HUFFMAN_TABLES, _DIVISORS, _RESTART_INTERVAL = 0xDA, 0xC4, 0xDB, 0xDD
_END_OF_IMAGE = b"\xff\xd9"
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; all with Huffman codes
_TABLES = frozenset({_HUFFMAN_TABLES, _DIVISORS, _RESTART_INTERVAL, 0xFE, *range(0xE0, 0xF0)})  # with COM, APP
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
# A marker in coded data: not a stuffed 0.
_END_OF_SCAN = re.compile(rb"\xff+(?![\x00\xff])")


def has_end(data: bytes) -> bool:
    """Return whether a JPEG has an end marker after a scan; one that a thumbnail in its header has does not count."""
    return data.rfind(_END_OF_IMAGE) > data.rfind(bytes([0xFF, _START_OF_SCAN]))


def mend_end(data: bytes) -> bytes | None:
    """Return a JPEG with its end marker after its last scan, or None if blocks are missing or may be.

    Follows the codes of the last scan (`jpeg_codes.py`). Nothing is known of a JPEG with arithmetic coding: None.
    """
    frame: Frame | None = None
    scans: list[Scan] = []
    missing: set[tuple[int, int]] = set()
    interval, tables, divisors = 0, dict[tuple[int, int], bytes](), dict[int, list[int]]()
    for marker, start, end, coded_end in _segments(data):
        body = data[start:end]
        if marker in _FRAMES:
            frame = Frame.read(marker, body)
            missing = {(component, place) for component in frame.sampling for place in range(64)}
        elif marker == _HUFFMAN_TABLES:
            tables = tables | dict(_huffman_tables(body))
        elif marker == _DIVISORS:
            divisors = divisors | dict(_divisors(body))
        elif marker == _RESTART_INTERVAL:
            interval = int.from_bytes(body[:2])
        elif marker == _START_OF_SCAN and frame is not None:
            components = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(1, len(body) - 4, 2)}
            first, last, bits = body[-3:]
            coded = data[end:coded_end]
            scans.append(Scan(components, first, last, bits > 15, tables, divisors, interval, end, coded))
            if bits & 15 == 0:
                missing -= {(component, place) for component in components for place in range(first, last + 1)}
            if not missing:
                photo_end = end_of_blocks(frame, scans)
                return None if photo_end is None else data[:photo_end] + _END_OF_IMAGE
    return None


def _huffman_tables(body: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield class and number of each table of a segment, and its counts and symbols."""
    while len(body) > 17:
        size = 17 + sum(body[1:17])
        yield (body[0] >> 4, body[0] & 15), body[1:size]
        body = body[size:]


def _divisors(body: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield number and divisors of each table of a segment."""
    while len(body) > 64:
        each = 2 if body[0] >> 4 else 1
        yield body[0] & 15, [int.from_bytes(body[at : at + each]) for at in range(1, 1 + 64 * each, each)]
        body = body[1 + 64 * each :]


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
