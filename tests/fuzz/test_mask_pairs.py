"""Folders of photos and PNG masks, nearly sound: each photo and each mask is in a sample or named in a line."""

from __future__ import annotations

import contextlib
import io
import math
import re
import struct
import zlib
from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from aopsam.masks import rle
from aopsam.photos.decode import MAX_PIXELS
from aopsam.photos.mask_pairs import PHOTOS, read_mask_pairs
from aopsam.photos.sa1b import Sample
from tests.helpers.mutations import check_lines, damaged, limited

HEIGHT, WIDTH = 12, 16
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@st.composite
def sound_masks(draw: st.DrawFn) -> tuple[bytes, int]:
    """Draw a PNG of 0 to 3 rectangles that do not touch, and how many there are: ids, or one object of 255."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    mode, objects = draw(st.sampled_from(MODES)), draw(st.integers(0, 3))
    binary = mode in ("1", "LA") or draw(st.booleans())
    for number in range(objects):
        values[1 : 1 + draw(st.integers(1, 9)), number * 5 + 1 : number * 5 + 4] = 255 if binary else number + 1
    image = Image.fromarray(values)
    if mode == "P":
        image = Image.fromarray(np.where(values == 255, 1, values).astype(np.uint8))
        image.putpalette([place * 7 % 256 for place in range(768)])
    elif mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16))
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), min(objects, 1) if binary else objects


@st.composite
def odd_masks(draw: st.DrawFn) -> bytes:
    """Draw a PNG that is damaged: bytes anywhere, or what is in its chunks, with sums that are right again."""
    png, _ = draw(sound_masks())
    if draw(st.booleans()):
        return draw(damaged(png))
    chunks = _chunks(png)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(chunks) - 1))
        kind, content = chunks[at]
        match draw(st.integers(0, 5)):
            case 0:
                chunks.insert(at, chunks[draw(st.integers(0, len(chunks) - 1))])
            case 1 if len(chunks) > 1:
                del chunks[at]
            case 2:
                name = draw(
                    st.sampled_from([b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"IEND"])
                )
                chunks.insert(at, (name, draw(st.binary(max_size=30))))
            case 3:
                sides = [
                    draw(st.sampled_from([0, 1, HEIGHT, WIDTH, 17, 300, 2**16, 2**31 - 1, 2**32 - 1])) for _ in "wh"
                ]
                depth, colour = draw(st.sampled_from([1, 2, 4, 8, 16, 3])), draw(st.sampled_from([0, 2, 3, 4, 6, 1]))
                chunks[at] = (b"IHDR", struct.pack(">IIBBBBB", *sides, depth, colour, 0, 0, draw(st.integers(0, 2))))
            case 4 if kind == b"IDAT":
                with contextlib.suppress(zlib.error):  # damaged before
                    chunks[at] = (kind, zlib.compress(draw(damaged(zlib.decompress(content)))))
            case _ if content:
                chunks[at] = (kind, draw(damaged(content, most=1)))
    return png[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        chunks.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += length + 12
    return chunks


def _photo(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def read(photos: list[str], masks: dict[str, bytes]) -> tuple[list[Sample], list[str]]:
    lines: list[str] = []
    with limited():
        samples = list(read_mask_pairs(photos, list(masks), _photo, masks.__getitem__, lines.append))
    for sample in samples:
        covered = np.zeros((sample.height, sample.width), bool)
        for annotation in sample.annotations:
            mask = rle.decode(annotation["segmentation"])
            assert mask.sum() == annotation["area"] > 0
            assert not (mask & covered).any()
            covered |= mask
    return samples, lines


@given(sound_masks())
def test_sound_masks(drawn: tuple[bytes, int]) -> None:
    png, objects = drawn
    (sample,), lines = read(["a.jpg"], {"a.png": png})
    assert not lines
    assert (sample.height, sample.width, len(sample.annotations)) == (HEIGHT, WIDTH, objects)


@given(odd_masks(), sound_masks())
def test_odd_masks(odd: bytes, sound: tuple[bytes, int]) -> None:
    """A mask is read or named, and costs no other; large ones, allowed and slow, are left out."""
    assume(not 2**24 < _most_pixels(odd) <= MAX_PIXELS)
    samples, lines = read(["a.jpg", "b.jpg"], {"a.png": odd, "b.png": sound[0]})
    check_lines(lines)
    assert len(samples) + len(lines) >= 2
    assert samples[-1].id == "b"
    assert len(samples[-1].annotations) == sound[1]
    assert len(samples) == 2 or "a.png" in lines[0]


def _most_pixels(png: bytes) -> int:
    headers = [png[found.end() : found.end() + 8].ljust(8, b"\0") for found in re.finditer(b"IHDR", png)]
    return max((math.prod(struct.unpack(">II", header)) for header in headers), default=0)


NAMES = st.one_of(
    st.sampled_from(["a", "b", "A", "a.b", ".a", "\udce4", "a\nb", "é", "e\u0301", "x" * 200]),
    st.text("ab. ", min_size=1, max_size=3),
)


@st.composite
def folders(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    suffixes = st.sampled_from([".jpg", ".jpg", ".JPG", ".jpeg", ".png", ".bmp"])
    photos = draw(st.lists(st.tuples(NAMES, suffixes).map("".join), max_size=5, unique=True))
    masks = draw(
        st.lists(st.tuples(NAMES, st.sampled_from([".png", ".png", ".PNG"])).map("".join), max_size=5, unique=True)
    )
    return photos, masks


@given(folders(), sound_masks())
def test_names(names: tuple[list[str], list[str]], drawn: tuple[bytes, Any]) -> None:
    """Each file with a photo's or a mask's suffix is in a sample, or in a line of its own."""
    photos, masks = names
    assert {".jpg", ".jpeg", ".png", ".bmp"} <= PHOTOS
    samples, lines = read(photos, dict.fromkeys(masks, drawn[0]))
    check_lines(lines)
    for sample in samples:
        sample.id.encode()
    assert {sample.jpeg for sample in samples} <= set(map(_photo, photos))
    repeats = sum(
        int(found[1]) - 1 for line in lines if (found := re.search(r"(\d+) \w+ of the name of another", line))
    )
    assert 2 * len(samples) + len(lines) + repeats == len(photos) + len(masks)
