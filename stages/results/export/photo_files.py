"""Name and encode exported photos so that any reader opens them, upright and by a name that is safe in any folder."""

from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

from aopsam.photos.colours import to_srgb
from aopsam.photos.decode import open_photo, quiet_pillow
from stages.results.export.selection import Photo

_ORIENTATION = 0x0112
_LONGEST = 60


def file_stem(photo: Photo) -> str:
    """Return a name of letters, digits, `_` and `-`: the end of the photo's own, and its id, which tells it apart."""
    name = photo.row["file_name"].rpartition(".")[0] or photo.row["file_name"]
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[-_LONGEST:].strip("-")
    return f"{slug}-{photo.row['image_id']}".lstrip("-")


def plain_photo(photo: Photo) -> tuple[bytes, str]:
    """Return a photo as a file that shows every reader what was labelled, and its suffix.

    A grey or RGB JPEG or PNG that lies upright is given as it is stored; of anything else (EXIF orientation, CMYK,
    16 bits, alpha, animations, a colour profile other than sRGB, other formats) what the model saw, as PNG.

    Raises:
        ValueError: it cannot be decoded.
    """
    kind = _plain(photo, ("JPEG", "PNG"))
    if kind is not None:
        return photo.encoded, ".jpg" if kind == "JPEG" else ".png"
    return png(open_photo(photo.encoded).rgb), ".png"


def jpeg_photo(photo: Photo) -> bytes:
    """Return a photo as a JPEG that shows every reader what was labelled: as stored, or else of quality 95.

    Raises:
        ValueError: it cannot be decoded.
    """
    if _plain(photo, ("JPEG",)) is not None:
        return photo.encoded
    written = io.BytesIO()
    Image.fromarray(open_photo(photo.encoded).rgb).save(written, "JPEG", quality=95, subsampling=0)
    return written.getvalue()


def _plain(photo: Photo, kinds: tuple[str, ...]) -> str | None:
    """Return the format of a photo of one of these formats that any reader shows as it was labelled; None of others."""
    size = (photo.row["width"], photo.row["height"])
    with quiet_pillow():
        try:
            with Image.open(io.BytesIO(photo.encoded), formats=kinds) as image:
                upright = image.getexif().get(_ORIENTATION, 1) == 1 and image.size == size
                plain = image.mode in ("L", "RGB") and getattr(image, "n_frames", 1) == 1 and to_srgb(image) is None
                return image.format if upright and plain and "transparency" not in image.info else None
        except (OSError, ValueError, SyntaxError):  # of another format, or broken in a way that our reader mends
            return None


def png(pixels: np.ndarray) -> bytes:
    """Encode (H, W) uint8, uint16 or bool, or (H, W, 3) uint8, as PNG."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()
