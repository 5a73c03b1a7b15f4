"""Decode the bytes of one photo, whatever they are, to an RGB array; every fault becomes a `PhotoError`."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from aopsam.photos.colours import profile_mode, to_srgb
from aopsam.photos.floats import to_unit_range
from aopsam.photos.jpeg_end import has_end, mend_end
from aopsam.photos.png_chunks import keep_pixel_chunks


class PhotoProblem(StrEnum):
    """Reasons why bytes cannot be decoded as a photo."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    CORRUPT_IMAGE = "corrupt_image"
    TOO_MANY_PIXELS = "too_many_pixels"


class PhotoError(ValueError):
    """Bytes that cannot be decoded as a photo.

    Attributes:
        kind: reason why.
        message: details in one line.
    """

    def __init__(self, kind: PhotoProblem, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Attributes:
        rgb: (H, W, 3) uint8, C-contiguous and writable, upright (EXIF orientation applied), transparency over white.
        note: one line about what a user may not expect of it; mostly empty.
    """

    rgb: np.ndarray
    note: str = ""


NEARLY_BLACK = 15
"""Highest value of a photo that is noted as nearly black: that of 12 bits stored as 16."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that sensors have; 16-bit grey has the fewest of them that hold its highest value."""


def _open_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile  # here, since it is an extra
    except ImportError as error:
        raise PhotoError(
            PhotoProblem.NOT_AN_IMAGE, "HEIC is read by an extra that is not installed: pip install 'aopsam[heic]'"
        ) from error
    opened: ImageFile.ImageFile = HeifImageFile(file)
    return opened


# The readers are named one by one and called directly: what is not here (PostScript above all, which runs a program)
# is never tried, and `Image.open`, whose pixel limit is one global for the whole process, is not needed.
_FORMATS: tuple[tuple[str, re.Pattern[bytes], Callable[[io.BytesIO], ImageFile.ImageFile]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImageFile),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    ("WebP", re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    ("GIF", re.compile(rb"GIF8[79]a"), GifImageFile),
    ("BMP", re.compile(rb"BM"), BmpImageFile),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImageFile),
    ("PPM", re.compile(rb"P[1-6][ \t\r\n#]"), PpmImageFile),
    # Of the brands that a file names, any may be the one that tells; AVIF names HEIC's general ones too.
    ("AVIF", re.compile(rb"....ftyp(?:....){0,16}?avi[fs]", re.DOTALL), AvifImageFile),
    ("HEIC", re.compile(rb"....ftyp(?:....){0,16}?(?:hei[cxms]|hevc|hevx|mif1|msf1)", re.DOTALL), _open_heic),
)
MAX_PIXELS = 200_000_000
"""Default for the most pixels of a photo that is decoded."""

_NAMES = ", ".join(name for name, _, _ in _FORMATS)

_ORIENTATION_TAG = 0x0112
_WHITE_IS_ZERO = 0
_IN_PLANES = 2
_GDAL_NODATA = 42113
# EXIF 2.3, table 4: what brings a stored image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_photo(
    data: bytes, max_pixels: int = MAX_PIXELS, before_decoding: Callable[[int], None] = lambda pixels: None
) -> Photo:
    """Decode the first frame of a JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF or PPM, or the main picture of a HEIC.

    HEIC needs the extra `heic`. The embedded ICC profile brings 8-bit RGB, grey and CMYK to sRGB (relative
    colorimetric, black point compensated); without one, or with a broken one, colours stay as they are. 16-bit grey
    whose highest value fits 8, 10, 12 or 14 bits is taken as of that many, and noted; else 16 bits keep their high
    byte, as those of colour always do. 32-bit integers count as 0 to 65535; floats as 0 to 1, or from their minimum to
    their maximum where they leave that range, no-data black. That a photo is nearly black or has further frames is
    noted. A BMP that is transparent everywhere is opaque. Faulty side chunks of a PNG and the missing end marker of a
    JPEG that has all its blocks cost nothing.

    Args:
        data: the encoded file.
        max_pixels: the most pixels (width times height) that are decoded, judged from the header. WebP and TIFF also
            meet Pillow's own limit, twice `PIL.Image.MAX_IMAGE_PIXELS`.
        before_decoding: called with the number of pixels once the header is read; may wait until there is memory.

    Raises:
        PhotoError: the bytes are empty, of another format, broken or cut short, or hold more than `max_pixels`.
            Nothing else is raised, whatever the bytes.
    """
    if not data:
        raise PhotoError(PhotoProblem.EMPTY_FILE, "no bytes")
    name, reader = next(((name, reader) for name, start, reader in _FORMATS if start.match(data)), ("", None))
    if reader is None:
        raise PhotoError(PhotoProblem.NOT_AN_IMAGE, f"none of {_NAMES}; it starts with {data[:8]!r}")
    try:
        with quiet_pillow():
            image = reader(io.BytesIO(keep_pixel_chunks(data) if reader is PngImageFile else data))
            _check_pixels(image, max_pixels)
            before_decoding(image.width * image.height)
            image = _load(image, data)
            _check_pixels(image, max_pixels)  # some are larger than their header says
            rgb, depth = _decode(image)
            notes = (depth, _nearly_black(rgb), _more_frames(image, data))
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:  # larger than Pillow itself allows
        raise PhotoError(PhotoProblem.TOO_MANY_PIXELS, _one_line(error)) from error
    except Exception as error:  # Pillow's readers raise anything at all on broken bytes
        raise PhotoError(PhotoProblem.CORRUPT_IMAGE, f"{name}: {_one_line(error)}") from error
    return Photo(rgb, "; ".join(note for note in notes if note))


def _nearly_black(rgb: np.ndarray) -> str:
    highest = rgb.max()
    if highest > NEARLY_BLACK:
        return ""
    return (
        f"nearly black: no value above {highest} of 255; 12 or fewer bits stored as 16 must be scaled to 16 bits first"
    )


def _more_frames(image: ImageFile.ImageFile, data: bytes) -> str:
    """Say that there are more frames; without counting them, which takes minutes for a million."""
    if isinstance(image, TiffImageFile):
        several = image.tag_v2.next != 0
    elif isinstance(image, PngImageFile):
        several = b"acTL" in data[: max(0, data.find(b"IDAT"))]  # image has lost it
    else:
        try:
            several = bool(getattr(image, "is_animated", False))
        except Exception:  # what is broken behind the first frame does not cost it
            several = True
    return "the first of several frames" if several else ""


def _check_pixels(image: ImageFile.ImageFile, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise PhotoError(
            PhotoProblem.TOO_MANY_PIXELS,
            f"{image.width} × {image.height} px is {pixels}, over the limit of {max_pixels}",
        )


def _load(image: ImageFile.ImageFile, data: bytes) -> ImageFile.ImageFile:
    """Load the pixels; those of a JPEG without its end marker if every block is there."""
    if isinstance(image, JpegImageFile) and not has_end(data):  # Pillow takes some for whole that are not
        return _load_mended(data)
    if isinstance(image, TiffImageFile):
        _tell_planes(image)
    try:
        image.load()
    except OSError:
        if not isinstance(image, JpegImageFile):
            raise
        return _load_mended(data)
    return image


def _tell_planes(image: TiffImageFile) -> None:
    """Say how planes of 16 bits are stored that are not compressed: Pillow takes them for planes of 8."""
    bits = image.tag_v2.get(BITSPERSAMPLE, ())
    if image.tag_v2.get(PLANAR_CONFIGURATION) == _IN_PLANES and len(bits) > 1 and set(bits) == {16}:
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        image.tile = [
            tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
            if tile.codec_name == "raw" and isinstance(tile.args, tuple)
            else tile
            for tile in image.tile
        ]


def _load_mended(data: bytes) -> JpegImageFile:
    mended = mend_end(data)
    if mended is None:
        raise PhotoError(
            PhotoProblem.CORRUPT_IMAGE, "JPEG: it is cut short or broken: no end marker, or blocks missing"
        )
    image = JpegImageFile(io.BytesIO(mended))
    image.load()
    return image


def _decode(image: ImageFile.ImageFile) -> tuple[np.ndarray, str]:
    """Return RGB and what is to be said of its depth."""
    transpose = _upright(image)
    grey = _deep_grey(image)
    rgb, note = (_to_rgb(image), "") if grey is None else (Image.fromarray(grey[0]).convert("RGB"), grey[1])
    return np.array(rgb if transpose is None else rgb.transpose(transpose)), note


def _upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif()[_ORIENTATION_TAG])
    except KeyError:
        return None
    except Exception:  # broken EXIF does not spoil the pixels; the photo stays as it is stored
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if isinstance(image, BmpImageFile) and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")  # the fourth byte is unused, as most writers of 32-bit BMP leave it
    profile = to_srgb(image)
    managed = None if profile is None else profile.apply(image.convert(profile_mode(image)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if managed is not None:
            managed.putalpha(rgba.getchannel("A"))
            rgba = managed
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB") if managed is None else managed


def _deep_grey(image: Image.Image) -> tuple[np.ndarray, str] | None:
    """Return an image of more than 8 bits of grey as (H, W) uint8, 0 black, with what is to be said of its depth; None
    of any other mode."""
    negative = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
    if image.mode == "F":
        unit = to_unit_range(np.asarray(image), _nodata(image))
        if np.isnan(unit).all():
            raise PhotoError(
                PhotoProblem.CORRUPT_IMAGE, "every pixel is no-data (NaN, infinite or a value for it), none is a number"
            )
        return (np.nan_to_num(1 - unit if negative else unit) * 255).astype(np.uint8), ""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
    elif image.mode == "I":
        values = np.asarray(image).clip(0, 0xFFFF)
    else:
        return None
    bits = next(bits for bits in DEPTHS if values.max() < 1 << bits)
    grey = (values >> (bits - 8)).astype(np.uint8)
    note = "" if bits == DEPTHS[-1] else f"its 16-bit values fit {bits} bits, and are taken as such"
    return (255 - grey if negative else grey), note


def _nodata(image: Image.Image) -> float | None:
    """Return the value that GDAL wrote for pixels without one, if any."""
    if not isinstance(image, TiffImageFile):
        return None
    try:
        return float(str(image.tag_v2[_GDAL_NODATA]).strip("\0 "))
    except (KeyError, ValueError):
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters = warnings.catch_warnings()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings for as long as any thread decodes.

    Python's warning filters belong to the whole process: threads that saved and restored them separately could restore
    in the wrong order. So the first thread in saves them and the last one out restores them.
    """
    global _quiet_depth, _quiet_filters
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.__exit__(None, None, None)
