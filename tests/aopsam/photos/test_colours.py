"""Photos come out in sRGB, whatever their embedded profile; a broken one costs nothing."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from aopsam.photos import colours
from aopsam.photos.decode import open_photo
from tests.helpers.photo_bytes import encode, scene
from tests.helpers.profiles import cmyk_profile, grey_profile, rgb_profile

P3 = rgb_profile()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# By the chromaticities of both (IEC 61966-2-1, SMPTE EG 432-1), computed without a profile; gamma 2.2 in, sRGB out.
OF_P3 = {(200, 100, 100): (216, 93, 97), (100, 200, 100): (43, 204, 85), (128, 128, 128): (129, 129, 129)}
EXACT = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("colour", OF_P3)
def test_wide_gamut_becomes_srgb(format: str, colour: tuple[int, int, int]) -> None:
    data = encode(Image.new("RGB", (16, 16), colour), format, icc_profile=P3, **EXACT.get(format, {}))
    np.testing.assert_allclose(open_photo(data).rgb[4, 4].astype(int), OF_P3[colour], atol=4)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_profile_and_transparency(format: str) -> None:
    image = Image.new("RGBA", (16, 16), (200, 100, 100, 255))
    image.paste((0, 0, 0, 0), (8, 0, 16, 16))
    rgb = open_photo(encode(image, format, icc_profile=P3, **EXACT.get(format, {}))).rgb.astype(int)
    np.testing.assert_allclose(rgb[4, 4], OF_P3[200, 100, 100], atol=4)
    assert rgb[4, 12].tolist() == [255, 255, 255]


def test_palette() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 100, 100, 0, 0, 0])
    image.putpixel((1, 0), 1)
    rgb = open_photo(encode(image, icc_profile=P3, transparency=1)).rgb.astype(int)
    np.testing.assert_allclose(rgb[0], [OF_P3[200, 100, 100], (255, 255, 255)], atol=4)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey(mode: str) -> None:
    data = encode(Image.new("L", (4, 4), 128).convert(mode), icc_profile=grey_profile(1.0))
    np.testing.assert_allclose(open_photo(data).rgb[0, 0].astype(int), 188, atol=2)  # half of the light


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format: str) -> None:
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 16))
    rgb = open_photo(encode(image, format, icc_profile=cmyk_profile())).rgb.astype(int)
    np.testing.assert_allclose(rgb[4, 4], 255, atol=3)
    red, green, blue = rgb[4, 12]  # black ink, which this press prints green
    assert green > 140
    assert green > red + 80
    assert green > blue + 40


def damaged() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    flipped = np.frombuffer(P3, np.uint8).copy()
    flipped[132:] = rng.integers(0, 256, len(P3) - 132)
    return {
        "empty": b"",
        "noise": rng.bytes(500),
        "cut": P3[:200],
        "tags": flipped.tobytes(),
        "huge": P3 + bytes(colours.MOST_PROFILE_BYTES),
        "of CMYK": cmyk_profile(),
        "of a link": P3[:12] + b"link" + P3[16:],
    }


@pytest.mark.parametrize("name", damaged())
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_profiles_that_cannot_be_used_are_ignored(name: str, format: str) -> None:
    plain, profile = encode(scene(), format), damaged()[name]
    np.testing.assert_array_equal(open_photo(encode(scene(), format, icc_profile=profile)).rgb, open_photo(plain).rgb)


def test_srgb_and_its_like_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene(), icc_profile=SRGB)
    open_photo(data)

    def build(*_: object) -> None:
        raise AssertionError("the profile was read before")

    monkeypatch.setattr(ImageCms, "buildTransform", build)
    np.testing.assert_array_equal(open_photo(data).rgb, np.asarray(scene()))
    assert colours.to_srgb(Image.open(io.BytesIO(data))) is None


def test_a_profile_of_a_png_that_unpacks_to_too_much_is_not_unpacked() -> None:
    data = encode(scene())
    at = data.index(b"IDAT") - 4
    body = b"icc\0\0" + zlib.compress(P3 + bytes(3_000_000))
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
    np.testing.assert_array_equal(open_photo(data[:at] + chunk + data[at:]).rgb, np.asarray(scene()))
