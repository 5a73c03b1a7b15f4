"""Mask PNGs are read by their colours and the counts of these."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import binary_dilation

from aopsam.photos.mask_png import ids_of

HW = (120, 160)
FIRST, SECOND = np.zeros(HW, bool), np.zeros(HW, bool)
FIRST[20:60, 20:70] = SECOND[50:100, 90:150] = True
LABELS = (FIRST * 1 + SECOND * 2).astype(np.uint8)
VOID = binary_dilation(LABELS > 0, iterations=3) & (LABELS == 0)
WITH_VOID = np.where(VOID, 255, LABELS).astype(np.uint8)
BINARY = (FIRST * 255).astype(np.uint8)
GREY = list(np.repeat(np.arange(256), 3))
BLACK, WHITE, RED, GREEN, VOC = (0, 0, 0), (255, 255, 255), (255, 0, 0), (40, 200, 90), (224, 224, 192)


def png(picture: np.ndarray | Image.Image, palette: Sequence[int] = (), **options: object) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if palette:
        image.putpalette([int(value) for value in palette])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def coloured(*colours: tuple[int, int, int], labels: np.ndarray = LABELS) -> np.ndarray:
    return np.array(colours, np.uint8)[labels]


def with_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([colours, alpha.astype(np.uint8)])


def blurred(picture: np.ndarray, radius: float) -> Image.Image:
    return Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius))


def photo() -> Image.Image:
    """Return a photo: soft, noisy, hardly two pixels alike."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
    return small.resize((HW[1], HW[0]), Image.Resampling.BICUBIC)


def objects(data: bytes) -> list[np.ndarray]:
    ids = ids_of(data)
    assert ids.shape == HW
    return [ids == one for one in np.unique(ids[ids != 0])]


SAME = {
    "palette of 0 and 255": (png(BINARY, GREY), [FIRST]),
    "palette of black and red at 255": (png(BINARY, [*GREY[:-3], *RED]), [FIRST]),
    "white at index 0": (png((~FIRST).astype(np.uint8), [*WHITE, *BLACK]), [FIRST]),
    "only black at index 1": (png(np.ones(HW, np.uint8), [*WHITE, *BLACK]), []),
    "palette all black": (png(LABELS.copy(), [0] * 768), [FIRST, SECOND]),
    "black at index 1": (png(np.array([1, 0, 2], np.uint8)[LABELS], [*RED, *BLACK, *GREEN]), [FIRST, SECOND]),
    "palette with void": (png(WITH_VOID, [*BLACK, *RED, *GREEN, *GREY[9:-3], *VOC]), [FIRST, SECOND]),
    "palette with void alone": (png(VOID * np.uint8(255), [*GREY[:-3], *VOC]), []),
    "grey palette with void": (png(WITH_VOID, GREY), [FIRST, SECOND]),
    "grey with void": (png(WITH_VOID), [FIRST, SECOND]),
    "16 bits": (png(LABELS.astype(np.uint16) * 20000), [FIRST, SECOND]),
    "16 bits with void": (png(np.where(VOID, np.uint16(65535), LABELS.astype(np.uint16))), [FIRST, SECOND]),
    "16 bits of 0 and 65535": (png(FIRST * np.uint16(65535)), [FIRST]),
    "colours with void": (png(coloured(BLACK, RED, GREEN, VOC, labels=np.where(VOID, 3, LABELS))), [SECOND, FIRST]),
    "colours on white": (png(coloured(WHITE, RED, GREEN)), [SECOND, FIRST]),
    "alpha of white": (png(with_alpha(coloured(WHITE, WHITE, WHITE), BINARY)), [FIRST]),
    "alpha of black": (png(with_alpha(coloured(BLACK, BLACK, BLACK), BINARY)), [FIRST]),
    "soft alpha": (png(with_alpha(coloured(WHITE, WHITE, WHITE), np.where(VOID, 100, BINARY))), [FIRST]),
    "alpha of a cut-out": (png(with_alpha(np.asarray(photo()), BINARY)), [FIRST]),
    "colours on nothing": (png(with_alpha(coloured(WHITE, RED, GREEN), (LABELS > 0) * 255)), [SECOND, FIRST]),
    "everywhere transparent": (png(with_alpha(coloured(BLACK, RED, GREEN), LABELS * 0)), [SECOND, FIRST]),
    "grey and alpha": (png(Image.merge("LA", [Image.new("L", HW[::-1], 9), Image.fromarray(BINARY)])), [FIRST]),
    "palette with nothing at index 0": (png(LABELS.copy(), [*WHITE, *RED, *GREEN], transparency=0), [FIRST, SECOND]),
    "a pixel an object": (png(np.eye(*HW, dtype=np.uint8) * 3), [np.eye(*HW, dtype=bool)]),
}


@pytest.mark.parametrize("case", SAME)
def test_clean_masks(case: str) -> None:
    data, expected = SAME[case]
    found = objects(data)
    assert len(found) == len(expected)
    assert all((ours == theirs).all() for ours, theirs in zip(found, expected, strict=True))


SOFT = {
    "grey up to 254": (png(blurred(BINARY // 255 * 254, 2)), [FIRST]),
    "grey up to 255": (png(blurred(BINARY, 1)), [FIRST]),
    "grey palette": (png(blurred(BINARY, 2).convert("P")), [FIRST]),
    "colours of a palette": (png(blurred(coloured(BLACK, RED, GREEN), 1).quantize(64)), [FIRST, SECOND]),
    "colours": (png(blurred(coloured(BLACK, RED, GREEN), 2)), [FIRST, SECOND]),
    "colours on white": (png(blurred(coloured(WHITE, RED, GREEN), 1)), [FIRST, SECOND]),
    "two greys": (png(blurred(LABELS * np.uint8(100), 1)), [FIRST, SECOND]),
}


@pytest.mark.parametrize("case", SOFT)
def test_soft_edges_go_to_the_nearest_area(case: str) -> None:
    data, expected = SOFT[case]
    found = sorted(objects(data), key=lambda mask: int(mask.sum()))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours != theirs).sum() < 0.02 * theirs.sum()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(photo()), "a photo, not a mask"),
        (png(photo().convert("L")), "a photo, not a mask"),
        (png(photo().quantize(256)), "a photo, not a mask"),
        (png(np.where(FIRST[..., None], np.asarray(photo()), np.uint8(255))), "a photo, not a mask"),
        (png(np.asarray(photo())[..., 0].astype(np.uint16) * 200 + 7), "a photo, not a mask"),
        (png(LABELS.copy(), [*WHITE, *BLACK, *RED]), "white at index 0, black at 1"),
        (png(np.array([0, 128, 255], np.uint8)[LABELS]), "grey values such as 128 fill areas beside 255"),
        (png(np.array([0, 7, 240], np.uint8)[LABELS] | VOID * np.uint8(255)), "neither a mask of 0 and 255 nor ids"),
    ],
)
def test_what_is_no_mask_is_named(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ids_of(data)


def test_ids_of_few_bits_are_not_stretched() -> None:
    data = bytearray(png(LABELS.copy(), [*BLACK, *RED, *GREEN], bits=2))
    at = data.index(b"PLTE")
    del data[at - 4 : at + 8 + int.from_bytes(data[at - 4 : at], "big")]
    data[25] = 0  # grey
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    assert all((ours == theirs).all() for ours, theirs in zip(objects(bytes(data)), [FIRST, SECOND], strict=True))


def test_colours_of_16_bits_are_refused() -> None:
    rows = (np.dstack([LABELS] * 3).astype(">u2") * 77).reshape(HW[0], -1).view(np.uint8)
    packed = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    header = b"".join(side.to_bytes(4, "big") for side in HW[::-1]) + bytes([16, 2, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")):
        data += len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
    with pytest.raises(ValueError, match="colours of 16 bits"):
        ids_of(data)
