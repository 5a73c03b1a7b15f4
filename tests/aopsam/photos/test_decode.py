"""Photos of every mode and format decode to upright RGB; bad bytes raise PhotoError and nothing else."""

from __future__ import annotations

import io
import struct
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import BmpImagePlugin, GifImagePlugin, Image, TiffImagePlugin

from aopsam.photos.decode import PhotoError, PhotoProblem, open_photo
from tests.helpers.photo_bytes import LIMIT, encode, problem, scene

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM"]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_decodes(format: str) -> None:
    rgb = open_photo(encode(scene(), format), LIMIT).rgb
    assert rgb.shape == (32, 48, 3)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable
    if format not in {"JPEG", "WEBP", "AVIF", "GIF"}:
        np.testing.assert_array_equal(rgb, np.asarray(scene()))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_exif_orientation(format: str, orientation: int) -> None:
    # What a viewer shows: row 0 and column 0 of the stored image lie on the sides that EXIF 2.3 names.
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = RED
    upright[16:, 24:] = BLUE
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    options["AVIF"] = {"quality": 100, "subsampling": "4:4:4"}
    data = encode(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif, **options.get(format, {}))
    np.testing.assert_allclose(open_photo(data, LIMIT).rgb.astype(int), upright, atol=40)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette(mode: str) -> None:
    image = scene(mode)
    np.testing.assert_array_equal(open_photo(encode(image), LIMIT).rgb, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 2))
    image.paste((0, 0, 0, 128), (2, 0, 3, 2))
    rgb = open_photo(encode(image.convert(mode)), LIMIT).rgb
    assert rgb[0, :, 0].tolist() == [0, 0, 127, 255]


def test_transparent_palette_entry_lies_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    for format in ("PNG", "GIF"):
        rgb = open_photo(encode(image, format, transparency=1), LIMIT).rgb
        assert rgb.tolist() == [[list(RED), list(WHITE)]], format


def test_transparent_colour_of_an_opaque_mode_lies_over_white() -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), BLUE)
    assert open_photo(encode(image, transparency=BLUE), LIMIT).rgb.tolist() == [[list(RED), list(WHITE)]]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format: str) -> None:
    # Cyan ink alone: red is absorbed. Pillow writes JPEG inverted with Adobe's marker, as Photoshop does.
    rgb = open_photo(encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), format), LIMIT).rgb
    np.testing.assert_allclose(rgb.reshape(-1, 3), np.broadcast_to((0, 255, 255), (64, 3)), atol=3)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_keeps_its_high_byte(format: str) -> None:
    values = np.array([[0, 255, 256, 0x7FFF, 0xFFFF]], np.uint16)
    rgb = open_photo(encode(Image.fromarray(values), format), LIMIT).rgb
    assert rgb[0, :, 0].tolist() == [0, 0, 1, 127, 255]


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("bits", "taken"), [(8, 8), (9, 10), (10, 10), (11, 12), (12, 12), (13, 14), (14, 14), (15, 16)]
)
def test_fewer_bits_stored_as_16_are_scaled_and_noted(name: str, bits: int, taken: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 256).astype(np.uint16).reshape(16, 16)
    photo = open_photo(encode(Image.fromarray(ramp), name))
    np.testing.assert_array_equal(photo.rgb[..., 1], ramp >> (taken - 8))
    assert photo.note == ("" if taken == 16 else f"its 16-bit values fit {taken} bits, and are taken as such")


def test_colour_of_12_bits_stored_as_16_is_noted() -> None:
    assert open_photo(encode(Image.new("RGB", (4, 4), (15, 2, 0)))).note.startswith("nearly black: no value above 15")


def test_thirty_two_bit_integers_count_as_sixteen() -> None:
    values = np.array([[-5, 0, 0x8000, 0xFFFF, 2_000_000]], np.int32)
    assert open_photo(encode(Image.fromarray(values), "TIFF"), LIMIT).rgb[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.25, 0.5], [0, 63, 127]),
        ([0.0, 100.0, 200.0], [0, 127, 255]),
        ([float("nan"), float("inf"), 1.0], [0, 0, 255]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_floats(values: list[float], expected: list[int]) -> None:
    data = encode(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert open_photo(data, LIMIT).rgb[0, :, 0].tolist() == expected


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_many(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE, WHITE)]
    rgb = open_photo(encode(frames[0], format, save_all=True, append_images=frames[1:]), LIMIT).rgb
    np.testing.assert_allclose(rgb[4, 4].astype(int), RED, atol=8)


@pytest.mark.parametrize("data", [b"%!PS-Adobe-3.0 EPSF-3.0", b"not a photo", b"P", b"\0" * 64, b"<svg/>", b"8BPS\0\1"])
def test_other_formats_are_not_tried(data: bytes) -> None:
    assert problem(data) == PhotoProblem.NOT_AN_IMAGE


def test_no_bytes() -> None:
    assert problem(b"") == PhotoProblem.EMPTY_FILE


@pytest.mark.parametrize("format", FORMATS)
def test_cut_in_half(format: str) -> None:
    data = encode(scene(), format)
    assert problem(data[: len(data) // 2]) == PhotoProblem.CORRUPT_IMAGE


def test_pixel_limit_is_inclusive() -> None:
    data = encode(scene())
    assert open_photo(data, 48 * 32).rgb.shape == (32, 48, 3)
    assert problem(data, 48 * 32 - 1) == PhotoProblem.TOO_MANY_PIXELS


def test_pixels_are_counted_before_decoding() -> None:
    data = encode(Image.new("1", (20_000, 20_000)))
    tracemalloc.start()
    assert problem(data) == PhotoProblem.TOO_MANY_PIXELS
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_our_limit_alone_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert open_photo(encode(scene()), LIMIT).rgb.shape == (32, 48, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_broken_exif_spoils_nothing() -> None:
    data = encode(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40)
    assert open_photo(data, LIMIT).rgb.shape == (32, 48, 3)


def test_warnings_stay_inside_and_filters_are_restored() -> None:
    data = encode(scene(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01")  # cut short
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        Image.open(io.BytesIO(data)).getexif()
    before = list(warnings.filters)

    def decode_many() -> None:
        for _ in range(50):
            open_photo(data, LIMIT)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=decode_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not caught
    assert list(warnings.filters) == before


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(1, len(data))]


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    flipped = bytearray(data)
    # Half of the flips meet the first bytes, where the header is.
    for place in rng.integers(0, rng.choice([min(64, len(data)), len(data)]), rng.integers(1, 6)):
        flipped[place] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


@pytest.mark.parametrize("damage", [cut, flip_bits])
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_bytes_raise_nothing_else(format: str, damage: Callable[[bytes, np.random.Generator], bytes]) -> None:
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if format in {"JPEG", "PNG", "WEBP", "AVIF", "TIFF"} else {}
    whole = encode(scene(), format, **options)
    for _ in range(100):
        try:
            rgb = open_photo(damage(whole, rng), LIMIT).rgb
        except PhotoError:
            continue
        assert rgb.ndim == 3
        assert rgb.shape[0] * rgb.shape[1] <= LIMIT


def test_who_asks_is_told_the_pixels_before_they_are_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32)).save(buffer, "PNG")
    told: list[int] = []
    open_photo(buffer.getvalue(), LIMIT, before_decoding=told.append)
    assert told == [48 * 32]
    with pytest.raises(PhotoError):
        open_photo(buffer.getvalue(), 48 * 32 - 1, before_decoding=told.append)
    assert told == [48 * 32]


def test_first_photo_of_an_mpo() -> None:
    first, second = scene(), Image.new("RGB", (8, 8), RED)
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=100)
    np.testing.assert_array_equal(open_photo(data, LIMIT).rgb, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def bmp(rgba: Image.Image) -> bytes:
    """Encode as a 32-bit BMP whose header has a mask of alpha (BITMAPV3HEADER)."""
    pixels = rgba.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
    sizes = struct.pack("<IiiHHIIiiII", 56, *rgba.size, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    return struct.pack("<2sIII", b"BM", 70 + len(pixels), 0, 70) + sizes + masks + pixels


def test_bmp_with_alpha_0_everywhere_is_opaque() -> None:
    image = scene("RGBA")
    image.putalpha(0)
    assert BmpImagePlugin.BmpImageFile(io.BytesIO(bmp(image))).mode == "RGBA"
    np.testing.assert_array_equal(open_photo(bmp(image), LIMIT).rgb, np.asarray(scene()))
    image.putpixel((0, 0), (*RED, 255))
    rgb = open_photo(bmp(image), LIMIT).rgb
    assert rgb[0, 0].tolist() == list(RED)
    assert (rgb[1:] == 255).all()


def tiff(values: np.ndarray, **tags: object) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    if "nodata" in tags:
        info[42113] = tags["nodata"]
    data = bytearray(encode(Image.fromarray(values), "TIFF", tiffinfo=info))
    if tags.get("white_is_zero"):
        entry = data.index(struct.pack("<HHI", 262, 3, 1))
        data[entry + 8 : entry + 10] = b"\0\0"
    return bytes(data)


def test_white_is_zero() -> None:
    deep = np.array([[0, 0x7FFF, 0xFFFF]], np.uint16)
    assert open_photo(tiff(deep, white_is_zero=True), LIMIT).rgb[0, :, 0].tolist() == [255, 128, 0]
    floats = np.array([[0, 0.25, 1, np.nan]], np.float32)
    assert open_photo(tiff(floats, white_is_zero=True), LIMIT).rgb[0, :, 0].tolist() == [255, 191, 0, 0]


@pytest.mark.parametrize("nodata", [np.nan, np.inf, -np.inf, -9999, -32768, -3.4028235e38, 3.4028235e38, 1e38])
def test_float_nodata_is_black(nodata: float) -> None:
    values = np.array([[nodata, -100, 0, 100]], np.float32)
    assert open_photo(tiff(values), LIMIT).rgb[0, :, 0].tolist() == [0, 0, 127, 255]
    assert problem(tiff(np.full((2, 2), nodata, np.float32))) == PhotoProblem.CORRUPT_IMAGE


def test_nodata_that_the_file_names_is_black() -> None:
    values = np.array([[500.5, 0, 50, 100]], np.float32)
    assert open_photo(tiff(values, nodata="500.5"), LIMIT).rgb[0, :, 0].tolist() == [0, 0, 127, 255]
    assert open_photo(tiff(values, nodata="none"), LIMIT).rgb[0, :, 0].tolist() == [255, 0, 25, 50]


def test_a_depth_of_9999_among_others_is_data() -> None:
    values = np.array([[-9999, -9998, -4999.5, 0]], np.float32)
    rgb = open_photo(tiff(values), LIMIT).rgb[0, :, 0]
    assert rgb[0] == rgb[1] == 0
    assert 126 <= rgb[2] <= 128
    assert rgb[3] >= 254


def deep(values: np.ndarray, **options: object) -> bytes:
    """Encode (H, W, 3) uint16 as an uncompressed TIFF, its bands in planes."""
    height, width, _ = values.shape
    planes = np.ascontiguousarray(values.transpose(2, 0, 1)).tobytes()
    entries = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, 8 + 2 + 12 * 11 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 3, 8 + 2 + 12 * 11 + 4 + 6),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 3, 8 + 2 + 12 * 11 + 4 + 18),
        (284, 3, 1, 2),
        (339, 3, 1, 1),
    ]
    at, plane = 8 + 2 + 12 * 11 + 4 + 30, len(planes) // 3
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4) + struct.pack("<3H", 16, 16, 16)
    head += struct.pack("<6I", at, at + plane, at + 2 * plane, plane, plane, plane)
    return head + planes


def test_planes_of_sixteen_bits() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 6, 3)).astype("<u2")
    np.testing.assert_array_equal(open_photo(deep(values)).rgb, values >> 8)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "GIF", "AVIF"])
def test_further_frames_are_noted(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    assert open_photo(encode(frames[0], format, save_all=True, append_images=frames[1:])).note == (
        "the first of several frames"
    )
    assert not open_photo(encode(frames[0], format)).note


def test_a_million_frames_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene("P"), "GIF")
    frame = data[data.index(b",") : -1]
    seeks: list[int] = []
    seek = GifImagePlugin.GifImageFile._seek
    monkeypatch.setattr(
        GifImagePlugin.GifImageFile, "_seek", lambda self, *more: (seeks.append(more[0]), seek(self, *more))[1]
    )
    assert open_photo(data[:-1] + frame * 1000 + b";").note == "the first of several frames"
    assert len(seeks) < 5


def test_a_broken_second_frame_costs_nothing() -> None:
    data = encode(scene("P"), "GIF")
    np.testing.assert_array_equal(open_photo(data[:-1] + b",\0").rgb, open_photo(data).rgb)


def heic(brands: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(brands), b"ftyp") + brands + bytes(64)


@pytest.mark.parametrize("brands", [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0miafheix", b"msf1\0\0\0\0hevc"])
def test_heic_names_its_extra(monkeypatch: pytest.MonkeyPatch, brands: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"not_an_image: HEIC .* pip install 'aopsam\[heic\]'"):
        open_photo(heic(brands))


@pytest.mark.parametrize("brand", [b"avif\0\0\0\0mif1miaf", b"mif1\0\0\0\0miafavif"])
def test_avif_is_told_by_any_brand(brand: bytes) -> None:
    with pytest.raises(PhotoError, match="corrupt_image: AVIF"):
        open_photo(heic(brand))


def test_heic_with_its_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image = Image.new("RGB", (64, 32), RED)
    image.paste(BLUE, (0, 0, 32, 32))
    pillow_heif.from_pillow(image).save(file, quality=100, chroma=444, exif=exif.tobytes())
    photo = open_photo(file.getvalue(), LIMIT)
    np.testing.assert_allclose(photo.rgb[10, 10].astype(int), BLUE, atol=12)
    assert photo.rgb.shape == (64, 32, 3)
    assert problem(file.getvalue(), 64 * 32 - 1) == PhotoProblem.TOO_MANY_PIXELS
    assert problem(file.getvalue()[:-40]) == PhotoProblem.CORRUPT_IMAGE
