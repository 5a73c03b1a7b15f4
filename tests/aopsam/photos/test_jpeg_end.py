"""A JPEG without its end marker is read if every block is there; a cut one stays corrupt, whatever follows the cut."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from aopsam.photos.decode import PhotoError, PhotoProblem, open_photo
from tests.helpers.photo_bytes import LIMIT, encode, problem, scene

JPEGS = {
    "baseline": {},
    "grey": {"mode": "L"},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}
FILLS = {
    "nothing": b"",
    "half a marker": b"\xff",
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "maker data": np.random.default_rng(3).bytes(3000) + b"END!",
    "a picture": b"\xff\xd8\xff\xe1\x00\x08abcdef",
}


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    noise = np.random.default_rng(1).integers(-30, 30, (70, 90, 3))
    photo = Image.fromarray((np.asarray(scene(width=90, height=70)) + noise).clip(0, 255).astype(np.uint8))
    return encode(photo.convert(mode), "JPEG", **options)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_without_its_end_marker(kind: str, fill: str) -> None:
    data = jpeg(**JPEGS[kind])
    assert data.endswith(b"\xff\xd9")
    rgb = open_photo(data[:-2] + FILLS[fill], LIMIT).rgb
    np.testing.assert_array_equal(rgb, open_photo(data, LIMIT).rgb)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg_cut_short_stays_corrupt(kind: str, fill: str) -> None:
    data = jpeg(**JPEGS[kind])
    scan = data.rindex(b"\xff\xda")
    for end in [*np.linspace(scan + 20, len(data) - 8, 8, dtype=int), *range(len(data) - 8, len(data) - 3)]:
        if fill == "nothing" or end < len(data) - 300:
            assert problem(data[:end] + FILLS[fill]) == PhotoProblem.CORRUPT_IMAGE, end


def test_jpeg_cut_before_a_restart_stays_corrupt() -> None:
    data = jpeg(restart_marker_blocks=3)
    scan = data.rindex(b"\xff\xda")
    cuts = [i for i in range(scan, len(data) - 2) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]
    assert cuts
    for end in cuts:
        assert problem(data[:end]) == PhotoProblem.CORRUPT_IMAGE, end


@pytest.mark.parametrize("size", [(64, 64), (400, 400), (200, 120)])
def test_flat_jpeg_without_its_end_marker(size: tuple[int, int]) -> None:
    data = encode(Image.new("L", size, 200), "JPEG", optimize=True)
    np.testing.assert_array_equal(open_photo(data[:-2], LIMIT).rgb, open_photo(data, LIMIT).rgb)


FOREIGN = {
    "random bytes": np.random.default_rng(5).bytes(3000),
    "another JPEG's tail": jpeg(quality=90)[3000:-2],
    "text": b"The quick brown fox jumps over the lazy dog. " * 60,
    "digits": b"0123456789abcdef" * 60,
    "ones": b"\xff" * 2000,
    "zeros": bytes(2000),
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("kind", ["baseline", "optimised", "progressive", "restarts"])
def test_jpeg_cut_short_and_followed_by_what_is_not_its_own(kind: str, foreign: str) -> None:
    data = jpeg(**JPEGS[kind])
    rgb = open_photo(data, LIMIT).rgb
    np.testing.assert_array_equal(open_photo(data[:-2] + FOREIGN[foreign], LIMIT).rgb, rgb)
    np.testing.assert_array_equal(open_photo(data + FOREIGN[foreign], LIMIT).rgb, rgb)
    scan, taken = data.rindex(b"\xff\xda"), 0
    for end in np.linspace(scan + 20, len(data) - 4, 24, dtype=int):
        try:
            open_photo(data[:end] + FOREIGN[foreign], LIMIT)
            taken += 1
        except PhotoError:
            pass
    assert taken <= 3  # the last few bytes may be like a photo's own; two thirds were taken before
