"""Broken or huge chunks beside a PNG's pixels cost nothing; broken ones that make its pixels cost the photo."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from aopsam.photos.decode import PhotoProblem, open_photo
from tests.helpers.photo_bytes import LIMIT, encode, problem, scene

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM"]


def chunk(kind: bytes, body: bytes, checksum: int | None = None, length: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body) if length is None else length) + kind + body + struct.pack(">I", checksum)


MANY = zlib.compress(bytes(3_000_000))
SIDE_CHUNKS = {
    "profile's checksum": chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"profile"), 1),
    "huge profile": chunk(b"iCCP", b"icc\0\0" + MANY),
    "profile that is none": chunk(b"iCCP", b"icc\0\0no zlib"),
    "text's checksum": chunk(b"tEXt", b"Comment\0hello", 1),
    "huge text": chunk(b"zTXt", b"Comment\0\0" + MANY),
    "huge XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MANY),
    "huge EXIF in text": chunk(b"zTXt", b"Raw profile type exif\0\0" + MANY),
    "text that is none": chunk(b"zTXt", b"Comment\0\7no zlib"),
    "EXIF's checksum": chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0", 1),
    "short resolution": chunk(b"pHYs", b"\0"),
    "short gamma": chunk(b"gAMA", b""),
    "short frames": chunk(b"acTL", b"\0") + chunk(b"fcTL", b"\0"),
    "too long": chunk(b"tEXt", b"Comment\0hello", length=99),
    "far too long": chunk(b"tEXt", b"Comment\0hello", length=0x7FFFFFFF),
    "too short": chunk(b"tEXt", b"Comment\0hello", length=3),
    "many": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(900_000))) * 100,
}


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("side", SIDE_CHUNKS)
def test_side_chunks_never_cost_a_png(side: str, place: bytes) -> None:
    data = encode(scene("P"))
    at = data.index(place) - 4
    rgb = open_photo(data[:at] + SIDE_CHUNKS[side] + data[at:], LIMIT).rgb
    np.testing.assert_array_equal(rgb, open_photo(data, LIMIT).rgb)


def test_huge_side_chunks_are_not_unpacked() -> None:
    data = encode(scene())
    at = data.index(b"IDAT") - 4
    huge = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    tracemalloc.start()
    open_photo(data[:at] + huge + data[at:], LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_orientation_in_xmp_stays() -> None:
    data = encode(scene())
    at = data.index(b"IDAT") - 4
    xmp = chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    assert open_photo(data[:at] + xmp + data[at:], LIMIT).rgb.shape == (48, 32, 3)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS"])
def test_faulty_chunks_that_make_pixels_cost_a_png(kind: bytes) -> None:
    data = bytearray(encode(scene("P"), transparency=3))
    at = data.index(kind)
    data[at + 4 + int.from_bytes(data[at - 4 : at])] ^= 1  # its checksum
    assert problem(bytes(data)) == PhotoProblem.CORRUPT_IMAGE
